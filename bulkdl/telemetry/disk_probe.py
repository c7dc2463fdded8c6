"""
The disk that the outputs go to, looked at from outside of the event loop.

A dead network mount keeps whoever touches it, so at most one look is under way at any time: the
endpoint says that the disk does not answer, and goes on answering itself.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PATIENCE_S = 2.0
_FRESH_S = 2.0


class DiskProbe:
    """
    Attributes:
        free_bytes: As last seen; NaN before and when it cannot be told.
        problem: Why nothing can be written, in words; None when it can.
    """

    def __init__(self, root: Path, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.free_bytes = math.nan
        self.problem: str | None = "has not been looked at"
        self._root = root
        self._state = state
        self._clock = clock
        self._looked_at_s = -math.inf
        self._look: asyncio.Future[None] | None = None
        self._executor = ThreadPoolExecutor(1, "bulkdl-disk-probe")

    def measure(self) -> None:
        """Look now; blocks."""
        self.free_bytes, self.problem = _seen(self._root, self._state)
        self._looked_at_s = self._clock()

    async def look(self) -> None:
        """Look, unless somebody just did; wait for it no longer than two seconds."""
        if self._clock() - self._looked_at_s < _FRESH_S:
            return
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().run_in_executor(self._executor, self.measure)
        await asyncio.wait({self._look}, timeout=_PATIENCE_S)
        if not self._look.done():
            self.problem = "does not answer"


def _seen(root: Path, state: Path) -> tuple[float, str | None]:
    free_bytes = math.nan
    try:
        free_bytes = float(shutil.disk_usage(root).free)
        # It has no name, so nothing is left of it whatever happens.
        with tempfile.TemporaryFile(dir=state) as probe:
            probe.write(b"\0")
    except FileNotFoundError:
        return free_bytes, "is not there yet"
    except OSError as error:
        return free_bytes, f"cannot be written ({error.strerror})"
    return free_bytes, None
