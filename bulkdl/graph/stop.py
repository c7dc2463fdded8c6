"""
Stopping: the first request drains (no new work, what is in flight goes on), the second aborts.
"""

from __future__ import annotations

import asyncio


class Stop:
    """Who wants the run to end, and how urgently."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()
        self.aborting = asyncio.Event()

    def request(self) -> None:
        """Drain; when that has been asked for already, abort."""
        if self.draining.is_set():
            self.aborting.set()
        self.draining.set()

    @property
    def requested(self) -> bool:
        return self.draining.is_set()
