"""
Health of a run: whether authentication succeeded and whether the output directory is writable.

A dead network mount blocks every thread that accesses it. At most one check of the disk therefore runs at a
time. The endpoints report that the disk does not respond, and remain available.
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

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Reason
from bulkdl.redaction import redact
from bulkdl.telemetry.events import STORAGE, Event, ProblemFound, RequestEnded, RunFinished

_TIMEOUT_S = 2.0
_MAX_AGE_S = 2.0


class DiskProbe:
    """
    Measures the free disk space and whether the state directory is writable.

    Attributes:
        free_bytes: Result of the last check; NaN before the first check and if it is unknown.
        problem: Why the directory is not writable; None if it is.
    """

    def __init__(self, root: Path, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.free_bytes = math.nan
        self.problem: str | None = "not checked yet"
        self._root = root
        self._state = state
        self._clock = clock
        self._measured_at_s = -math.inf
        self._check: asyncio.Future[None] | None = None
        self._executor = ThreadPoolExecutor(1, "bulkdl-disk-probe")

    def measure(self) -> None:
        """Check the disk now; blocks."""
        self.free_bytes, self.problem = _measure_disk(self._root, self._state)
        self._measured_at_s = self._clock()

    async def refresh(self) -> None:
        """Check the disk, unless the last check is recent; wait for the result for two seconds at most."""
        if self._clock() - self._measured_at_s < _MAX_AGE_S:
            return
        if self._check is None or self._check.done():
            self._check = asyncio.get_running_loop().run_in_executor(self._executor, self.measure)
        await asyncio.wait({self._check}, timeout=_TIMEOUT_S)
        if not self._check.done():
            self.problem = "does not respond"


def _measure_disk(root: Path, state: Path) -> tuple[float, str | None]:
    free_bytes = math.nan
    try:
        free_bytes = float(shutil.disk_usage(root).free)
        # The file has no name, so a killed process does not leave it behind.
        with tempfile.TemporaryFile(dir=state) as probe:
            probe.write(b"\0")
    except FileNotFoundError:
        return free_bytes, "does not exist"
    except OSError as error:
        return free_bytes, f"is not writable ({error.strerror})"
    return free_bytes, None


class Readiness:
    """A reporter that detects the first successful response of an API."""

    def __init__(self) -> None:
        self._is_authenticated = False
        self._auth_error = ""

    def report(self, event: Event) -> None:
        """Process *event*."""
        if isinstance(event, RequestEnded):
            succeeded = event.status is not None and 200 <= event.status < 300
            self._is_authenticated |= succeeded and event.endpoint != STORAGE
        elif isinstance(event, ProblemFound) and event.reason is Reason.CREDENTIALS:
            self._auth_error = redact(event.detail)
        elif isinstance(event, RunFinished) and event.exit_code == ExitCode.CREDENTIALS:
            self._is_authenticated = False  # a service can lose its permission after earlier runs

    def reasons(self, disk_problem: str | None) -> list[str]:
        """Return why the run is not ready; empty if it is ready."""
        reasons = []
        if not self._is_authenticated:
            reasons.append(
                f"authentication failed: {self._auth_error}" if self._auth_error else "not authenticated yet"
            )
        if disk_problem is not None:
            reasons.append(f"the output directory {disk_problem}")
        return reasons
