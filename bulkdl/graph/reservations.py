"""
Prevents a second download of an output in one run when its container is listed more than once.

It also prevents concurrent downloads of one stored object that several containers have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from bulkdl.concurrency import WaitQueue
from bulkdl.listings import PlannedOutput
from bulkdl.models import Container, ContainerRef, Output


class ExclusiveKeys:
    """
    Lets one task at a time hold a key.

    The memory is proportional to the number of held keys.
    """

    def __init__(self) -> None:
        self._waiters: dict[str, WaitQueue] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold *key* inside the block; wait while another task holds it."""
        while key in self._waiters:
            held = self._waiters[key]
            await held.wait_for(partial(self._is_released, key, held))
        waiters = self._waiters[key] = WaitQueue()
        try:
            yield
        finally:
            del self._waiters[key]
            waiters.notify_all()

    def _is_released(self, key: str, held: WaitQueue) -> bool:
        return self._waiters.get(key) is not held


class OutputReservations:
    """
    The outputs that this run downloads now, and recent downloads of containers that are being compared.

    A comparison uses ledger records that were read at its begin. An output that ends during the comparison
    is missing according to these records. Therefore it remains reserved until the last comparison of its
    container has ended. The number of comparisons in progress is bounded, so the number of reservations is
    bounded too.
    """

    def __init__(self) -> None:
        self._in_progress: set[Output] = set()
        self._comparisons: Counter[ContainerRef] = Counter()
        self._ended: dict[ContainerRef, set[Output]] = {}

    def begin_comparison(self, containers: Iterable[Container]) -> None:
        """Keep the reservations of *containers*. Call it before their ledger records are read."""
        self._comparisons.update(container.ref for container in containers)

    def end_comparison(self, containers: Iterable[Container]) -> None:
        """End one comparison of each container in *containers*."""
        for container in containers:
            ref = container.ref
            self._comparisons[ref] -= 1
            if not self._comparisons[ref]:
                del self._comparisons[ref]
                self._ended.pop(ref, None)

    def reserve(self, missing: Sequence[PlannedOutput]) -> tuple[PlannedOutput, ...]:
        """Reserve the outputs of *missing* that are not reserved yet, and return them."""
        new = tuple(planned for planned in missing if not self._is_reserved(planned.output))
        self._in_progress.update(planned.output for planned in new)
        return new

    def _is_reserved(self, output: Output) -> bool:
        if output in self._in_progress:
            return True
        return output in self._ended.get(output.container, ())

    def release(self, outputs: Iterable[Output]) -> None:
        """End the downloads of *outputs*, whose results are recorded."""
        for output in outputs:
            self._in_progress.discard(output)
            if output.container in self._comparisons:
                self._ended.setdefault(output.container, set()).add(output)
