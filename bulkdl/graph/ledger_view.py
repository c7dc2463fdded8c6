"""The ledger as the enumeration uses it: recorded by a run, read by a plan, absent before the first run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection
from typing import ClassVar, Protocol

from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.rows import JobRecord


class LedgerView(Protocol):
    """Reads recorded jobs and records listings."""

    @property
    def is_read_only(self) -> bool:
        """Whether the enumeration must not change the ledger and the output directory."""

    @property
    def run_id(self) -> str | None:
        """The run that enumerates; None for a plan."""

    async def known_jobs(self, project_id: str, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """Return the recorded jobs among *job_ids*, by ID."""

    async def projects_of(self, job_id: str) -> list[str]:
        """Return the projects that have a recorded job *job_id*."""

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Execute *statement*; without effect if the view is read-only."""


class EmptyLedgerView:
    """The view of a plan for an output directory without a ledger."""

    is_read_only: ClassVar[bool] = True
    run_id: ClassVar[str | None] = None

    async def known_jobs(self, project_id: str, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        del project_id, job_ids
        return {}

    async def projects_of(self, job_id: str) -> list[str]:
        del job_id
        return []

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Do nothing: a plan records nothing."""


@dataclass(frozen=True, slots=True)
class _RecordedJobs:
    ledger: Ledger

    async def known_jobs(self, project_id: str, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        return await self.ledger.read(
            partial(queries.read_jobs, project_id=project_id, job_ids=list(job_ids))
        )

    async def projects_of(self, job_id: str) -> list[str]:
        return await self.ledger.read(partial(queries.find_projects, job_id=job_id))


@dataclass(frozen=True, slots=True)
class PlanLedgerView(_RecordedJobs):
    """The view of a plan: it reads the ledger and does not change it."""

    is_read_only: ClassVar[bool] = True
    run_id: ClassVar[str | None] = None

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Do nothing: a plan records nothing."""


@dataclass(frozen=True, slots=True)
class RunLedgerView(_RecordedJobs):
    """The view of the run *run_id*."""

    run_id: str
    is_read_only: ClassVar[bool] = False

    async def write(self, statement: Callable[[Connection], None]) -> None:
        await self.ledger.write(statement)
