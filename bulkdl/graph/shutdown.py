"""
Controls the shutdown of a run: the first request drains it, the second request aborts it.

A drained run does not start new downloads; active downloads may finish. A budget that is used up also drains
the run, but does not count as a request.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from bulkdl.failure_policy import ExitCode


class ShutdownController:
    """
    The shutdown state of one run.

    Attributes:
        stopping: Set by the first request, not by a budget that is used up.
        cause: The exit code of the first request that has one, otherwise of the budget that is used up.
    """

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.stopping = asyncio.Event()
        self.aborting = asyncio.Event()
        self.cause: ExitCode | None = None

    @property
    def requested(self) -> bool:
        """Whether a shutdown was requested; a budget that is used up is not a request."""
        return self.stopping.is_set()

    def request(self, cause: ExitCode | None = None) -> None:
        """Drain the run; abort it if a shutdown was requested before."""
        if self.stopping.is_set():
            self.aborting.set()
            self.cause = self.cause or cause
        else:
            self.cause = cause or self.cause
        self.stopping.set()
        self.draining.set()

    def drain(self, cause: ExitCode) -> None:
        """Drain the run; *cause* is used only if the run was not drained before."""
        if not self.draining.is_set():
            self.cause = self.cause or cause
            self.draining.set()

    def abort(self, cause: ExitCode) -> None:
        """Abort the run."""
        self.cause = self.cause or cause
        self.draining.set()
        self.stopping.set()
        self.aborting.set()

    async def sleep(self, delay_s: float) -> None:
        """Sleep for *delay_s*; return early when the run drains."""
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self.draining.wait()

    def clear_cause_if_complete(self) -> None:
        """Remove the cause of a complete run, which a used-up budget did not shorten."""
        if not self.requested:
            self.cause = None
