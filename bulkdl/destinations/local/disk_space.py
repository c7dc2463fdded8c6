"""
The room of one file system that many transfers share: what is free, less what is promised.

A transfer is promised the room for all that is still to come of it before any of that is written. The
promise shrinks as bytes are written, for then they are missing from what is free, and ends with it.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from bulkdl.errors import DestinationError
from bulkdl.models import Reason

# What must stay free for the ledger, logs and other programs when a large body is about to come.
HEADROOM_BYTES = 16 << 20


def fits(wanted_bytes: int, *, free_bytes: int, promised_bytes: int) -> bool:
    """Whether so much may come beside what is promised to others; nothing always may."""
    return wanted_bytes <= 0 or wanted_bytes + promised_bytes + HEADROOM_BYTES <= free_bytes


class DiskReservations:
    """
    The account of what is promised, by transfer. Safe to be used by several threads.

    Args:
        folder: On the file system in question.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._promised: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        with self._lock:
            return sum(self._promised.values())

    def reserve(self, who: str, size_bytes: int) -> None:
        """
        Promise *who* the room for *size_bytes*, in place of any earlier promise; asks the system.

        Raises:
            DestinationError: DISK_FULL; there is not so much, and *who* is promised nothing.
            OSError: The system does not tell.
        """
        with self._lock:  # noted first: of two that come at once at least one sees the other
            self._promised[who] = size_bytes
            others_bytes = sum(self._promised.values()) - size_bytes
        free_bytes = shutil.disk_usage(self._folder).free
        if not fits(size_bytes, free_bytes=free_bytes, promised_bytes=others_bytes):
            self.release(who)
            taken = f", {others_bytes} of them for transfers under way" if others_bytes else ""
            raise DestinationError(
                Reason.DISK_FULL,
                f"{self._folder}: {size_bytes} bytes are to come, {free_bytes} are free{taken}",
            )

    def consume(self, who: str, size_bytes: int) -> None:
        """So much of what *who* was promised is on disk."""
        with self._lock:
            if who in self._promised:
                self._promised[who] = max(0, self._promised[who] - size_bytes)

    def release(self, who: str) -> None:
        """Nothing more is to come of *who*."""
        with self._lock:
            self._promised.pop(who, None)
