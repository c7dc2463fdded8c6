"""
Download a list of URLs with plain aiohttp: ``python bench/peer_aiohttp.py LIST``. A line is ``URL FILE``.

The script uses one connection per file. It does not compute checksums, sync, or write a ledger or a log. It
is a lower bound for programs that use aiohttp, including the imports.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

import aiohttp


async def fetch(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    async with session.get(url) as response:
        response.raise_for_status()
        with path.open("wb") as file:
            async for chunk in response.content.iter_any():
                file.write(chunk)


async def main(links: list[list[str]]) -> None:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(), limit=len(links))
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for url, file in links:
            group.create_task(fetch(session, url, Path(file)))


asyncio.run(main([line.split() for line in Path(sys.argv[1]).read_text().splitlines()]))
