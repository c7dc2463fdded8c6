"""Where an enumeration puts what it finds: a run fetches it, a plan counts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bulkdl.graph.planning import Bundle, Wanted, key_of
from bulkdl.ledger.rows import KnownOutput
from bulkdl.model import Kind, Output, Result
from bulkdl.report.plan import PlanBuilder
from bulkdl.settings.path_templates import PathTemplates


@dataclass(frozen=True, slots=True)
class Outlets:
    """
    Where the enumeration puts what it finds.

    Attributes:
        reserve: Takes missing outputs; returns those that are not in progress already.
        bundle: Takes reserved outputs that are to be downloaded.
        cancelled: Takes a reserved output that will not be downloaded in this run.
        settled: Takes what is there already.
        ended: Takes what failed while it was being enumerated.
        problem: Takes what is wrong with a whole project or job.
    """

    reserve: Callable[[Sequence[Wanted]], tuple[Wanted, ...]]
    bundle: Callable[[Bundle], Awaitable[None]]
    cancelled: Callable[[Output], None]
    settled: Callable[[tuple[KnownOutput, ...]], None]
    ended: Callable[[Result], Awaitable[object]]
    problem: Callable[..., None]


def outlets_of(plan: PlanBuilder, names: PathTemplates) -> Outlets:
    """The outlets of a plan: everything is counted, nothing is done."""

    async def add(bundle: Bundle) -> None:
        for wanted in bundle:
            known_key = wanted.output.kind is not Kind.ARCHIVE
            plan.add(wanted.output, key_of(wanted, names)("") if known_key else None)

    def settled(outputs: tuple[KnownOutput, ...]) -> None:
        for known in outputs:
            plan.settle(known.output.kind)

    async def ended(result: Result) -> None:
        plan.summary.add(result)

    def cancelled(output: Output) -> None:
        del output  # a plan that was stopped counts what it has found so far

    return Outlets(tuple, add, cancelled, settled, ended, plan.summary.add_problem)
