"""List the delivery numbers with a property, by arithmetic instead of a table."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import overload

from bulkdl.simulator.v2.scenarios import PERIOD, SCENARIOS

_HEAD = len(SCENARIOS)


class DeliveryNumbers(Sequence[int]):
    """
    The delivery numbers below *count* for which *has* is true, in ascending order, without *excluded*.

    *has* is called for the numbers of the scenarios and of one period. It must be periodic from then on.
    """

    def __init__(
        self, has: Callable[[int], bool], count: int, excluded: Collection[int] = frozenset()
    ) -> None:
        self._head = [number for number in range(min(_HEAD, count)) if has(number)]
        self._positions = [position for position in range(PERIOD) if has(_HEAD + position)]
        self._end = count
        ranks = sorted(self._rank(number) for number in excluded if self._is_listed(number))
        # The index of the first entry after each gap, so that a bisection returns the number of gaps before.
        self._gaps = [rank - number for number, rank in enumerate(ranks)]
        self._excluded = frozenset(excluded)

    def __len__(self) -> int:
        return self._rank(self._end) - len(self._gaps)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        at = index % len(self)
        at += bisect_right(self._gaps, at)
        if at < len(self._head):
            return self._head[at]
        period, position = divmod(at - len(self._head), len(self._positions))
        return _HEAD + period * PERIOD + self._positions[position]

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._is_listed(number) and number not in self._excluded

    def __iter__(self) -> Iterator[int]:
        return (self[at] for at in range(len(self)))

    def newest_first(self, below: int | None = None) -> Iterator[int]:
        """Yield the numbers below *below* (None: all) in descending order."""
        start = self._end if below is None else min(below, self._end)
        return (number for number in range(start - 1, -1, -1) if number in self)

    @classmethod
    def count_for(cls, has: Callable[[int], bool], length: int) -> int:
        """Return the smallest count with *length* numbers."""
        return cls(has, _HEAD + PERIOD * (length + 1))[length - 1] + 1 if length else 0

    def _is_listed(self, number: int) -> bool:
        if not 0 <= number < self._end:
            return False
        if number < _HEAD:
            return number in self._head
        return (number - _HEAD) % PERIOD in self._positions

    def _rank(self, number: int) -> int:
        """Return how many numbers are below *number*, with the excluded ones."""
        if number <= _HEAD:
            return bisect_left(self._head, number)
        full, rest = divmod(number - _HEAD, PERIOD)
        return len(self._head) + full * len(self._positions) + bisect_left(self._positions, rest)
