"""Prevents a second download of an output in one run when its job is listed more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bulkdl.models import Job, Output
from bulkdl.sources.up42_jobs.planning import MissingOutput

_JobKey = tuple[str, str]


class OutputReservations:
    """
    The outputs that this run downloads now, and recently downloaded outputs of jobs that are being compared.

    A comparison uses ledger records that were read at its begin. An output that ends during the comparison
    is missing according to these records. Therefore it remains reserved until the last comparison of its job
    has ended. The number of comparisons in progress is bounded, so the number of reservations is bounded too.
    """

    def __init__(self) -> None:
        self._in_progress: set[Output] = set()
        self._comparisons: Counter[_JobKey] = Counter()
        self._ended: dict[_JobKey, set[Output]] = {}

    def begin_comparison(self, jobs: Iterable[Job]) -> None:
        """Keep the reservations of the outputs of *jobs*. Call it before the ledger records are read."""
        self._comparisons.update((job.project_id, job.id) for job in jobs)

    def end_comparison(self, jobs: Iterable[Job]) -> None:
        """End one comparison of each job in *jobs*."""
        for job in jobs:
            key = job.project_id, job.id
            self._comparisons[key] -= 1
            if not self._comparisons[key]:
                del self._comparisons[key]
                self._ended.pop(key, None)

    def reserve(self, missing: Sequence[MissingOutput]) -> tuple[MissingOutput, ...]:
        """Reserve the outputs of *missing* that are not reserved yet, and return them."""
        new = tuple(each for each in missing if not self._is_reserved(each.output))
        self._in_progress.update(each.output for each in new)
        return new

    def _is_reserved(self, output: Output) -> bool:
        if output in self._in_progress:
            return True
        return output in self._ended.get((output.container.scope, output.container.id), ())

    def release(self, outputs: Iterable[Output]) -> None:
        """End the downloads of *outputs*, whose results are recorded."""
        for output in outputs:
            self._in_progress.discard(output)
            key = output.container.scope, output.container.id
            if key in self._comparisons:
                self._ended.setdefault(key, set()).add(output)
