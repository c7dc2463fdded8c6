"""
Stopping: the first request drains (no new work, what is in flight may end), the second aborts.
A budget that is used up drains too, but is nobody's request.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bulkdl.failure_policy import ExitCode


class ShutdownController:
    """
    Who wants the run to end, and how urgently.

    Attributes:
        cause: The exit code of the first request that gave one, else of what drained by itself.
    """

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.aborting = asyncio.Event()
        self.cause: ExitCode | None = None
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether somebody has asked for it, and no budget alone."""
        return self._requested or self.aborting.is_set()

    def request(self, cause: ExitCode | None = None) -> None:
        """Drain; when that has been requested already, abort."""
        if self._requested:
            self.aborting.set()
            self.cause = self.cause or cause
        elif not self.aborting.is_set():
            self.cause = cause or self.cause
        self._requested = True
        self.draining.set()

    def drain(self, cause: ExitCode) -> None:
        """Drain, however often it is asked for; *cause* counts only if nobody has drained before."""
        if not self.draining.is_set():
            self.cause = self.cause or cause
            self.draining.set()

    def abort(self, cause: ExitCode) -> None:
        """End at once."""
        self.cause = self.cause or cause
        self.draining.set()
        self.aborting.set()

    async def sleep(self, delay_s: float) -> None:
        """Sleep for *delay_s*; return early when the run drains."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self.draining.wait()

    def clear_cause_if_complete(self) -> None:
        """All was there when the run came to its end: a budget that was used up has stopped nothing."""
        if not self.requested:
            self.cause = None
