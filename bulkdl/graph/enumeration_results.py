"""Handle the results of an enumeration: a run downloads the missing outputs, a plan counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bulkdl.graph.planning import SameObjectGroup
from bulkdl.graph.pools import Pools
from bulkdl.graph.recorder import Recorder
from bulkdl.ledger.rows import OutputRecord
from bulkdl.listings import PlannedOutput
from bulkdl.models import Container, Output, Reason, Result
from bulkdl.report.models import ContainerCounts
from bulkdl.report.plan import PlanBuilder
from bulkdl.source_spec import kind_spec
from bulkdl.transfer.interfaces import MakeKey


class EnumerationHandler(Protocol):
    """Receives the results of an enumeration."""

    @property
    def counts(self) -> ContainerCounts:
        """The counts of containers, which the enumeration increments."""

    def begin_comparison(self, containers: Sequence[Container]) -> None:
        """Receive containers before their ledger records are read."""

    def end_comparison(self, containers: Sequence[Container]) -> None:
        """Receive containers whose ledger records are not used any more."""

    def reserve(self, missing: Sequence[PlannedOutput]) -> tuple[PlannedOutput, ...]:
        """Reserve the outputs of *missing* that are not in progress, and return them."""

    async def enqueue(self, group: SameObjectGroup) -> None:
        """Receive reserved outputs that must be downloaded."""

    def cancel(self, output: Output) -> None:
        """Receive a reserved output that will not be downloaded in this run."""

    def skip(self, outputs: tuple[OutputRecord, ...]) -> None:
        """Receive outputs that are up to date."""

    async def fail(self, result: Result) -> None:
        """Receive an output that failed during the enumeration."""

    def report_problem(self, reason: Reason, subject: str, detail: str, *, scope: str | None = None) -> None:
        """Receive the failure of a complete scope or container."""


@dataclass(frozen=True, slots=True)
class RunHandler:
    """Puts missing outputs of one source into the queues of the pools, and records the other results."""

    pools: Pools
    recorder: Recorder
    source: str

    @property
    def counts(self) -> ContainerCounts:
        return self.recorder.summary.containers(self.source)

    def begin_comparison(self, containers: Sequence[Container]) -> None:
        self.pools.reservations.begin_comparison(containers)

    def end_comparison(self, containers: Sequence[Container]) -> None:
        self.pools.reservations.end_comparison(containers)

    def reserve(self, missing: Sequence[PlannedOutput]) -> tuple[PlannedOutput, ...]:
        return self.pools.reservations.reserve(missing)

    async def enqueue(self, group: SameObjectGroup) -> None:
        await self.pools.put(group)

    def cancel(self, output: Output) -> None:
        self.recorder.record_cancelled(output)

    def skip(self, outputs: tuple[OutputRecord, ...]) -> None:
        self.recorder.record_skipped(outputs)

    async def fail(self, result: Result) -> None:
        await self.recorder.record_result(result)

    def report_problem(self, reason: Reason, subject: str, detail: str, *, scope: str | None = None) -> None:
        self.recorder.record_problem(reason, subject, detail, source=self.source, scope=scope)


@dataclass(frozen=True, slots=True)
class PlanHandler:
    """Counts the results of one source and downloads nothing. A stopped plan keeps its counts."""

    plan: PlanBuilder
    make_key: Callable[[PlannedOutput], MakeKey]
    source: str

    @property
    def counts(self) -> ContainerCounts:
        return self.plan.summary.containers(self.source)

    def begin_comparison(self, containers: Sequence[Container]) -> None:
        """Do nothing: a plan does not change the ledger."""

    def end_comparison(self, containers: Sequence[Container]) -> None:
        """Do nothing: a plan does not change the ledger."""

    def reserve(self, missing: Sequence[PlannedOutput]) -> tuple[PlannedOutput, ...]:
        return tuple(missing)

    async def enqueue(self, group: SameObjectGroup) -> None:
        for missing in group:
            # If the content decides the suffix, the key is not known before the download.
            has_key = len(kind_spec(missing.output.kind).suffixes) == 1
            self.plan.add(missing.output, self.make_key(missing)("") if has_key else None)

    def cancel(self, output: Output) -> None:
        """Do nothing: the output remains counted."""

    def skip(self, outputs: tuple[OutputRecord, ...]) -> None:
        for record in outputs:
            self.plan.add_skipped(record.output.kind)

    async def fail(self, result: Result) -> None:
        self.plan.summary.add(result)

    def report_problem(self, reason: Reason, subject: str, detail: str, *, scope: str | None = None) -> None:
        self.plan.summary.add_problem(reason, subject, detail, source=self.source, scope=scope)
