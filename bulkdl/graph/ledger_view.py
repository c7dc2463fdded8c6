"""What the enumeration knows of jobs, and where it writes down what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection

from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.rows import JobRecord


@dataclass(frozen=True, slots=True)
class LedgerView:
    """
    A ledger, as far as there is one.

    Attributes:
        ledger: None where there is none yet and none is to be made (a plan).
        written: What is found is written down; a plan writes nothing, neither rows nor documents.
        run_id: Of the run that enumerates; None for a plan.
    """

    ledger: Ledger | None
    written: bool = True
    run_id: str | None = None

    async def known(self, project_id: str, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """What is known of these jobs, by job id."""
        if self.ledger is None:
            return {}
        return await self.ledger.read(
            partial(queries.known_jobs, project_id=project_id, job_ids=list(job_ids))
        )

    async def projects_of(self, job_id: str) -> list[str]:
        """The projects in which a job of that id is known."""
        if self.ledger is None:
            return []
        return await self.ledger.read(partial(queries.projects_of, job_id=job_id))

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Write it down, unless nothing is."""
        if self.written and self.ledger is not None:
            await self.ledger.write(statement)
