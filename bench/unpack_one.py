"""
Unpack one archive with the unpacker of bulkdl: ``python bench/unpack_one.py LIBRARY ARCHIVE FOLDER [--lag]``.

LIBRARY is ``isal`` or ``zlib``. The files are durable when the process ends. With ``--lag``, the script runs
the unpacker in a thread next to an event loop, and prints the 99th percentile of the delay of a timer in ms.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bulkdl.archives.gzip_reader import INFLATE_LIBRARIES
from bulkdl.concurrency import run_stoppable
from bulkdl.models import Digest
from bulkdl.processors.unpack.engine import unpack_archive

_TIMER_S = 0.002


class UnlimitedSpace:
    """Reserves nothing."""

    def reserve(self, size_bytes: int) -> None: ...
    def consume(self, size_bytes: int) -> None: ...


def unpack(stop: threading.Event, library: str, archive: Path, folder: Path) -> None:
    digest = Digest("crc32c", "")
    unpack_archive(
        stop, archive, digest, folder / "work", UnlimitedSpace(), library=INFLATE_LIBRARIES[library]
    )


async def measure_lag(library: str, archive: Path, folder: Path) -> float:
    """Return the 99th percentile of the lag of the event loop in seconds."""
    lags = []
    with ThreadPoolExecutor(1) as threads:
        work = asyncio.ensure_future(run_stoppable(threads, unpack, library, archive, folder))
        while not work.done():
            before_s = time.perf_counter()
            await asyncio.sleep(_TIMER_S)
            lags.append(time.perf_counter() - before_s - _TIMER_S)
        await work
    return sorted(lags)[int(len(lags) * 0.99)]


def main(library: str, archive: str, folder: str, *options: str) -> None:
    if options:
        lag_s = asyncio.run(measure_lag(library, Path(archive), Path(folder)))
        sys.stdout.write(f"{lag_s * 1000:.2f}\n")
    else:
        unpack(threading.Event(), library, Path(archive), Path(folder))


main(*sys.argv[1:])
