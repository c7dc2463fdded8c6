"""Where an enumeration puts what it finds: a run fetches it, a plan counts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bulkdl.ledger.rows import OutputRecord
from bulkdl.models import Job, Kind, Output, Result
from bulkdl.report.plan import PlanBuilder
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs.planning import MissingOutput, SameObjectGroup, target_key


@dataclass(frozen=True, slots=True)
class EnumerationHandler:
    """
    Where the enumeration puts what it finds.

    Attributes:
        begin_comparison: Takes the jobs whose ledger records will be read.
        end_comparison: Takes jobs whose ledger records are not used any more.
        reserve: Takes missing outputs; returns those that are not in progress already.
        bundle: Takes reserved outputs that are to be downloaded.
        cancelled: Takes a reserved output that will not be downloaded in this run.
        settled: Takes what is there already.
        ended: Takes what failed while it was being enumerated.
        problem: Takes what is wrong with a whole project or job.
    """

    begin_comparison: Callable[[Sequence[Job]], None]
    end_comparison: Callable[[Sequence[Job]], None]
    reserve: Callable[[Sequence[MissingOutput]], tuple[MissingOutput, ...]]
    missing: Callable[[SameObjectGroup], Awaitable[None]]
    cancelled: Callable[[Output], None]
    skipped: Callable[[tuple[OutputRecord, ...]], None]
    failed: Callable[[Result], Awaitable[object]]
    problem: Callable[..., None]


def plan_handler(plan: PlanBuilder, names: PathTemplates) -> EnumerationHandler:
    """The outlets of a plan: everything is counted, nothing is done."""

    async def add(group: SameObjectGroup) -> None:
        for wanted in group:
            known_key = wanted.output.kind is not Kind.ARCHIVE
            plan.add(wanted.output, target_key(wanted, names)("") if known_key else None)

    def settled(outputs: tuple[OutputRecord, ...]) -> None:
        for known in outputs:
            plan.add_skipped(known.output.kind)

    async def ended(result: Result) -> None:
        plan.summary.add(result)

    def cancelled(output: Output) -> None:
        del output  # a plan that was stopped counts what it has found so far

    def compare(jobs: Sequence[Job]) -> None:
        del jobs  # a plan does not change the ledger

    return EnumerationHandler(
        compare, compare, tuple, add, cancelled, settled, ended, plan.summary.add_problem
    )
