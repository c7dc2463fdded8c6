"""
Assign the segments of a large object to connections. Pure bookkeeping.

The first connection has requested the whole object and reads from its start. Other connections take segments
from the far end of the bytes that it has not reached, so that its response is shortened as late as possible.
If no segment is free, an idle connection takes the second half of the longest segment in progress.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MIN_SEGMENT_BYTES = 512 << 10
_SEGMENT_SIZE_RANGE = (1 << 20, 64 << 20)


@dataclass(slots=True, eq=False)
class Segment:
    """
    A byte range that one connection downloads.

    Attributes:
        offset: The next byte to receive.
        end: The first byte behind the segment; another connection can move it towards *offset*.
        open_ended: Whether the request continues to the end of the object.
    """

    offset: int
    end: int
    open_ended: bool = False

    @property
    def remaining_bytes(self) -> int:
        """Bytes that are not received yet."""
        return self.end - self.offset


class SegmentScheduler:
    """
    The missing bytes of one object and the segments in progress.

    Args:
        total_bytes: Size of the object.
        done: (start, end) of bytes that are stored; ranges do not overlap.
    """

    def __init__(self, total_bytes: int, done: Iterable[tuple[int, int]] = ()) -> None:
        self._total_bytes = total_bytes
        self._free = _find_gaps(total_bytes, sorted(done))
        self._active: list[Segment] = []

    @property
    def missing_bytes(self) -> int:
        """Bytes that no connection has received."""
        free_bytes = sum(end - start for start, end in self._free)
        return free_bytes + sum(segment.remaining_bytes for segment in self._active)

    def take_all(self) -> Segment:
        """Return the whole object as a segment, for the connection that has requested it."""
        self._free = []
        return self._start(Segment(0, self._total_bytes, open_ended=True))

    def take(self) -> Segment | None:
        """Return a segment for an idle connection; None if another connection would not help."""
        if self._free:
            return self._take_free()
        longest = self._find_divisible()
        if longest is None:
            return None
        half_bytes = longest.remaining_bytes // 2
        size_bytes = min(self._segment_bytes(), half_bytes) if longest.open_ended else half_bytes
        longest.end -= size_bytes
        return self._start(Segment(longest.end, longest.end + size_bytes))

    @property
    def has_segment(self) -> bool:
        """Whether ``take`` would return a segment."""
        return bool(self._free) or self._find_divisible() is not None

    def _find_divisible(self) -> Segment | None:
        longest = max(self._active, key=lambda segment: segment.remaining_bytes, default=None)
        if longest is None or longest.remaining_bytes < 2 * MIN_SEGMENT_BYTES:
            return None
        return longest

    def _take_free(self) -> Segment:
        start, end = self._free.pop(0)
        size_bytes = self._segment_bytes()
        if end - start > size_bytes + MIN_SEGMENT_BYTES:
            self._free.insert(0, (start + size_bytes, end))
            end = start + size_bytes
        return self._start(Segment(start, end))

    def _segment_bytes(self) -> int:
        min_bytes, max_bytes = _SEGMENT_SIZE_RANGE
        return max(min_bytes, min(max_bytes, self.missing_bytes // (2 * (len(self._active) + 1))))

    def _start(self, segment: Segment) -> Segment:
        self._active.append(segment)
        return segment

    def finish(self, segment: Segment) -> None:
        """End the work on *segment*; bytes that were not received are free for other connections."""
        self._active.remove(segment)
        if segment.remaining_bytes:
            self._free.insert(0, (segment.offset, segment.end))


def _find_gaps(total_bytes: int, done: list[tuple[int, int]]) -> list[tuple[int, int]]:
    gaps, offset = [], 0
    for start, end in done:
        if start > offset:
            gaps.append((offset, start))
        offset = max(offset, end)
    if offset < total_bytes:
        gaps.append((offset, total_bytes))
    return gaps
