"""The ledger as the enumeration uses it: recorded by a run, read by a plan, absent before the first run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection
from typing import ClassVar, Protocol

from bulkdl.ledger import derived_queries, queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import UnpackedArchive
from bulkdl.ledger.rows import ContainerRecord
from bulkdl.models import ContainerRef


class LedgerView(Protocol):
    """Reads recorded containers and records listings."""

    @property
    def is_read_only(self) -> bool:
        """Whether the enumeration must not change the ledger and the output directory."""

    @property
    def run_id(self) -> str | None:
        """The run that enumerates; None for a plan."""

    async def known_containers(
        self, source: str, scope: str, ids: Sequence[str]
    ) -> dict[str, ContainerRecord]:
        """Return the recorded containers among *ids*, by ID."""

    async def scopes_of(self, source: str, container_id: str) -> list[str]:
        """Return the scopes that have a recorded container *container_id*."""

    async def unpacked_archives(self, container: ContainerRef) -> list[UnpackedArchive]:
        """Return the unpacked archives of *container*."""

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Execute *statement*; without effect if the view is read-only."""


class EmptyLedgerView:
    """The view of a plan for an output directory without a ledger."""

    is_read_only: ClassVar[bool] = True
    run_id: ClassVar[str | None] = None

    async def known_containers(
        self, source: str, scope: str, ids: Sequence[str]
    ) -> dict[str, ContainerRecord]:
        del source, scope, ids
        return {}

    async def scopes_of(self, source: str, container_id: str) -> list[str]:
        del source, container_id
        return []

    async def unpacked_archives(self, container: ContainerRef) -> list[UnpackedArchive]:
        del container
        return []

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Do nothing: a plan records nothing."""


@dataclass(frozen=True, slots=True)
class _RecordedContainers:
    ledger: Ledger

    async def known_containers(
        self, source: str, scope: str, ids: Sequence[str]
    ) -> dict[str, ContainerRecord]:
        return await self.ledger.read(
            partial(queries.read_containers, source=source, scope=scope, ids=list(ids))
        )

    async def scopes_of(self, source: str, container_id: str) -> list[str]:
        return await self.ledger.read(partial(queries.find_scopes, source=source, container_id=container_id))

    async def unpacked_archives(self, container: ContainerRef) -> list[UnpackedArchive]:
        return await self.ledger.read(partial(derived_queries.read_unpacked, container=container))


@dataclass(frozen=True, slots=True)
class PlanLedgerView(_RecordedContainers):
    """The view of a plan: it reads the ledger and does not change it."""

    is_read_only: ClassVar[bool] = True
    run_id: ClassVar[str | None] = None

    async def write(self, statement: Callable[[Connection], None]) -> None:
        """Do nothing: a plan records nothing."""


@dataclass(frozen=True, slots=True)
class RunLedgerView(_RecordedContainers):
    """The view of the run *run_id*."""

    run_id: str
    is_read_only: ClassVar[bool] = False

    async def write(self, statement: Callable[[Connection], None]) -> None:
        await self.ledger.write(statement)
