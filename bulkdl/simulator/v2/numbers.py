"""List the delivery numbers with a property, by arithmetic instead of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from bulkdl.simulator.v2.scenarios import PERIOD, SCENARIOS

_HEAD = len(SCENARIOS)


class DeliveryNumbers(Sequence[int]):
    """
    The delivery numbers below *count* for which *has* is true, in ascending order.

    *has* is called for the numbers of the scenarios and of one period. It must be periodic from then on.
    """

    def __init__(self, has: Callable[[int], bool], count: int) -> None:
        self._head = [number for number in range(min(_HEAD, count)) if has(number)]
        self._positions = [position for position in range(PERIOD) if has(_HEAD + position)]
        self._end = count

    def __len__(self) -> int:
        full, rest = divmod(max(0, self._end - _HEAD), PERIOD)
        partial = sum(position < rest for position in self._positions)
        return len(self._head) + full * len(self._positions) + partial

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
        if at < len(self._head):
            return self._head[at]
        period, position = divmod(at - len(self._head), len(self._positions))
        return _HEAD + period * PERIOD + self._positions[position]

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int) or not 0 <= number < self._end:
            return False
        if number < _HEAD:
            return number in self._head
        return (number - _HEAD) % PERIOD in self._positions

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
