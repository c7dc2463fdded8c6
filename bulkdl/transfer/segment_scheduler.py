"""
Who fetches which bytes of a large object. Pure bookkeeping.

The first connection has asked for the whole and works from the front; others take pieces from the
far end of what it has not reached yet, so that it is cut short once at most. When nothing is free any
more, an idle connection takes over the second half of the longest piece under way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_BYTES = 512 << 10
_PIECE_BYTES = (1 << 20, 64 << 20)


@dataclass(slots=True, eq=False)
class Segment:
    """
    Bytes that one connection is fetching.

    Attributes:
        at: The next byte to come.
        end: The first byte that belongs to somebody else; it can move towards *at* meanwhile.
        open_ended: The request goes on to the end of the object.
    """

    at: int
    end: int
    open_ended: bool = False

    @property
    def left(self) -> int:
        return self.end - self.at


class SegmentScheduler:
    """What is missing of an object of *total_bytes*, and who is at it."""

    def __init__(self, total_bytes: int, done: Iterable[tuple[int, int]] = ()) -> None:
        """
        Begin with what is missing.

        Args:
            done: (start, end) of bytes that are there; they do not overlap.
        """
        self._total_bytes = total_bytes
        self._free = _gaps(total_bytes, sorted(done))
        self._busy: list[Segment] = []

    @property
    def missing_bytes(self) -> int:
        return sum(end - start for start, end in self._free) + sum(span.left for span in self._busy)

    def take_all(self) -> Segment:
        """The whole, for the connection whose request was for the whole."""
        self._free = []
        return self._begin(Segment(0, self._total_bytes, open_ended=True))

    def take(self) -> Segment | None:
        """A piece for an idle connection; None when another connection would be of no use."""
        if self._free:
            return self._take_free()
        longest = self._to_be_shared()
        if longest is None:
            return None
        piece = min(self._piece_bytes(), longest.left // 2) if longest.open_ended else longest.left // 2
        longest.end -= piece
        return self._begin(Segment(longest.end, longest.end + piece))

    @property
    def has_piece(self) -> bool:
        """Whether there is one for an idle connection."""
        return bool(self._free) or self._to_be_shared() is not None

    def _to_be_shared(self) -> Segment | None:
        longest = max(self._busy, key=lambda span: span.left, default=None)
        return longest if longest is not None and longest.left >= 2 * LEAST_BYTES else None

    def _take_free(self) -> Segment:
        start, end = self._free.pop(0)
        piece = self._piece_bytes()
        if end - start > piece + LEAST_BYTES:
            self._free.insert(0, (start + piece, end))
            end = start + piece
        return self._begin(Segment(start, end))

    def _piece_bytes(self) -> int:
        least, most = _PIECE_BYTES
        return max(least, min(most, self.missing_bytes // (2 * (len(self._busy) + 1))))

    def _begin(self, span: Segment) -> Segment:
        self._busy.append(span)
        return span

    def finish(self, span: Segment) -> None:
        """The connection leaves *span*; what it did not fetch is free for others."""
        self._busy.remove(span)
        if span.left:
            self._free.insert(0, (span.at, span.end))


def _gaps(total_bytes: int, done: list[tuple[int, int]]) -> list[tuple[int, int]]:
    gaps, at = [], 0
    for start, end in done:
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    if at < total_bytes:
        gaps.append((at, total_bytes))
    return gaps
