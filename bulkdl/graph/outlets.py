"""Where an enumeration puts what it finds: a run fetches it, a plan counts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bulkdl.graph.planning import Bundle, key_of
from bulkdl.ledger.rows import KnownOutput
from bulkdl.model import Kind, Result
from bulkdl.report.plan import PlanBuilder
from bulkdl.settings.path_templates import PathTemplates


@dataclass(frozen=True, slots=True)
class Outlets:
    """
    Where the enumeration puts what it finds.

    Attributes:
        bundle: Takes what is to be fetched.
        settled: Takes what is there already.
        ended: Takes what failed while it was being enumerated.
        problem: Takes what is wrong with a whole project or job.
    """

    bundle: Callable[[Bundle], Awaitable[None]]
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

    return Outlets(add, settled, ended, plan.summary.add_problem)
