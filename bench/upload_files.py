"""
Publish all files of a folder to an object store, as a run does after their downloads.

``python upload_files.py FOLDER URL``. The file ``FOLDER.json`` contains the CRC32C of each file, because a
run knows it from the download. Prints the lag of the event loop as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.models import CommittedFile, Digest, Validator
from bulkdl.state.storage import create_storage

_INTERVAL_S = 0.005


async def _measure_lag(lags_s: list[float]) -> None:
    while True:
        began_s = time.perf_counter()
        await asyncio.sleep(_INTERVAL_S)
        lags_s.append(time.perf_counter() - began_s - _INTERVAL_S)


async def _upload(folder: Path, url: str, lags_s: list[float]) -> None:
    digests = json.loads(folder.with_suffix(".json").read_text())
    with tempfile.TemporaryDirectory() as state:
        async with create_storage(url, Path(state)) as storage:
            storage.state.prepare()
            await storage.destination.open()
            lag = asyncio.ensure_future(_measure_lag(lags_s))
            async with asyncio.TaskGroup() as group:
                for name, value in digests.items():
                    path = folder / name
                    file = CommittedFile(
                        name, path.stat().st_size, Digest("crc32c", value), Validator('"1"'), None
                    )
                    group.create_task(storage.destination.publish(CompletedFile(path), file))
            lag.cancel()


def main() -> None:
    lags_s: list[float] = []
    asyncio.run(_upload(Path(sys.argv[1]), sys.argv[2], lags_s))
    ordered = sorted(lags_s)
    lag = {"p99_ms": 1000 * ordered[int(0.99 * len(ordered))], "max_ms": 1000 * ordered[-1]}
    print(json.dumps(lag), flush=True)  # noqa: T201 - the result
    os._exit(0)  # as the command line does: threads of the client can abort a normal exit


if __name__ == "__main__":
    main()
