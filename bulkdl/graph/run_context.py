"""The collaborators that all stages of one run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bulkdl.graph.recorder import Recorder
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.ledger.database import Ledger
from bulkdl.selection import SelectionBySource
from bulkdl.sources.interfaces import Source
from bulkdl.state.storage import Storage
from bulkdl.telemetry.events import Reporter


class LockedRun(Protocol):
    """A run that has locked its directory: of downloads, or of processors only."""

    @property
    def run_id(self) -> str:
        """The ID of the run."""

    @property
    def storage(self) -> Storage:
        """The destination and the state directory."""

    @property
    def ledger(self) -> Ledger:
        """Open for writing."""

    @property
    def recorder(self) -> Recorder:
        """Records results and problems."""

    @property
    def reporter(self) -> Reporter:
        """Receives the events of the run."""

    @property
    def shutdown(self) -> ShutdownController:
        """Stops the run."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """
    The collaborators that all stages of one run share.

    Attributes:
        selections: The selections of the run, by source.
        sources: The open sources of the run, by name.
        ledger: Open for writing, and locked by this run.
    """

    run_id: str
    selections: SelectionBySource
    sources: Mapping[str, Source]
    storage: Storage
    ledger: Ledger
    recorder: Recorder
    reporter: Reporter
    shutdown: ShutdownController
