"""
Detects a stalled transfer: it is slower than a minimum speed for a whole window.

Only the time spent waiting for the network counts, so that the bandwidth limit and a slow disk do not look
like a stalled server. There is no total time limit: a large file may take days.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(slots=True)
class StallDetector:
    """
    Measures the speed of one transfer.

    Attributes:
        limit_bytes_per_s: Minimum speed; 0 disables the detection.
        window_s: How long a transfer may be slower.
    """

    limit_bytes_per_s: float
    window_s: float
    _waited_s: float = 0.0
    _received_bytes: int = 0

    def read_timeout(self) -> asyncio.Timeout:
        """Return the timeout of one read: a read without data for the whole window is a stall."""
        return asyncio.timeout(self.window_s if self.limit_bytes_per_s > 0 else None)

    def is_stalled(self, waited_s: float, received_bytes: int) -> bool:
        """Add one read of *received_bytes* that took *waited_s*; return whether the transfer is stalled."""
        self._waited_s += waited_s
        self._received_bytes += received_bytes
        if self._waited_s < self.window_s:
            return False
        too_slow = self._received_bytes < self.limit_bytes_per_s * self._waited_s
        self._waited_s, self._received_bytes = 0.0, 0
        return too_slow
