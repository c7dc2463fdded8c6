"""
Reserve disk space for all concurrent downloads of one file system together.

A download reserves the space for all bytes that it will still receive, before it writes any of them. The
reservation shrinks while bytes are written, because the file system then reports less free space.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from bulkdl.errors import DestinationError
from bulkdl.models import Reason

# Stays free for the ledger, logs and other programs.
HEADROOM_BYTES = 16 << 20


def has_enough_space(needed_bytes: int, *, free_bytes: int, reserved_bytes: int) -> bool:
    """Return whether *needed_bytes* are free next to other reservations. 0 bytes are always available."""
    return needed_bytes <= 0 or needed_bytes + reserved_bytes + HEADROOM_BYTES <= free_bytes


class DiskReservations:
    """
    The reserved bytes of one file system by owner. Thread-safe.

    Args:
        folder: A folder on the file system.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reserved: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def reserved_bytes(self) -> int:
        with self._lock:
            return sum(self._reserved.values())

    def reserve(self, owner_id: str, size_bytes: int) -> None:
        """
        Reserve *size_bytes* for *owner_id*, in place of its earlier reservation.

        Raises:
            DestinationError: DISK_FULL; there is not enough space, and *owner_id* has no reservation now.
            OSError: The free space cannot be read.
        """
        # The reservation is entered first: of two concurrent callers at least one sees the other.
        with self._lock:
            self._reserved[owner_id] = size_bytes
            others_bytes = sum(self._reserved.values()) - size_bytes
        free_bytes = shutil.disk_usage(self._folder).free
        if not has_enough_space(size_bytes, free_bytes=free_bytes, reserved_bytes=others_bytes):
            self.release(owner_id)
            reserved = f" ({others_bytes} reserved by running downloads)" if others_bytes else ""
            raise DestinationError(
                Reason.DISK_FULL,
                f"{self._folder}: not enough disk space: {size_bytes} bytes needed, "
                f"{free_bytes} free{reserved}",
            )

    def consume(self, owner_id: str, size_bytes: int) -> None:
        """Reduce the reservation of *owner_id* by bytes that are on disk now."""
        with self._lock:
            if owner_id in self._reserved:
                self._reserved[owner_id] = max(0, self._reserved[owner_id] - size_bytes)

    def release(self, owner_id: str) -> None:
        """Remove the reservation of *owner_id*."""
        with self._lock:
            self._reserved.pop(owner_id, None)
