"""
What aiohttp comes to by itself: each URL of a list read to its end and written to a file, nothing more.

No digest, no fsync, no ledger, no log, one connection for each file: the least that a downloader made of
aiohttp can cost, loading included. ``python bench/peer_aiohttp.py LIST``; a line is ``URL FILE``.
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
