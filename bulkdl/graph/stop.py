"""
Stopping: the first request drains (no new work, what is in flight may end), the second aborts.
"""

from __future__ import annotations

import asyncio

from bulkdl.reactions import Exit


class Stop:
    """
    Who wants the run to end, and how urgently.

    Attributes:
        cause: The exit code of the first request that gave one.
    """

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.aborting = asyncio.Event()
        self.cause: Exit | None = None

    def request(self, cause: Exit | None = None) -> None:
        """Drain; when that has been asked for already, abort."""
        self.cause = self.cause or cause
        if self.draining.is_set():
            self.aborting.set()
        self.draining.set()

    def drain(self, cause: Exit) -> None:
        """Drain, however often it is asked for."""
        if not self.draining.is_set():
            self.request(cause)

    def abort(self, cause: Exit) -> None:
        """End at once."""
        self.cause = self.cause or cause
        self.draining.set()
        self.aborting.set()
