"""
When a body counts as stalled: slower than a floor, for a whole window.

Only time spent waiting for the network counts, so that neither our own bandwidth limit nor a slow
disk looks like a stalled server. There is no total time limit anywhere: a large file may take days.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class StallDetector:
    """
    Attributes:
        limit_bytes_per_s: The floor.
        window_s: For how long a transfer may stay below it.
    """

    limit_bytes_per_s: float
    window_s: float
    _waited_s: float = 0.0
    _got_bytes: int = 0

    def read_timeout(self) -> asyncio.Timeout:
        """A bound on one read: nothing at all for the whole window is a stall, too."""
        return asyncio.timeout(self.window_s if self.limit_bytes_per_s > 0 else None)

    def is_stalled(self, waited_s: float, got_bytes: int) -> bool:
        """Take in one read that lasted *waited_s* and brought *got_bytes*; True when that was too slow."""
        self._waited_s += waited_s
        self._got_bytes += got_bytes
        if self._waited_s < self.window_s:
            return False
        too_slow = self._got_bytes < self.limit_bytes_per_s * self._waited_s
        self._waited_s, self._got_bytes = 0.0, 0
        return too_slow
