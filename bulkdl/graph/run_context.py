"""The collaborators that all stages of one run share."""

from __future__ import annotations

from dataclasses import dataclass

from bulkdl.graph.recorder import Recorder
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.ledger.database import Ledger
from bulkdl.selection import Selection
from bulkdl.sources.interfaces import Source
from bulkdl.state.storage import Storage
from bulkdl.telemetry.events import Reporter


@dataclass(frozen=True, slots=True)
class RunContext:
    """
    The collaborators that all stages of one run share.

    Attributes:
        ledger: Open for writing, and locked by this run.
    """

    run_id: str
    selection: Selection
    source: Source
    storage: Storage
    ledger: Ledger
    recorder: Recorder
    reporter: Reporter
    shutdown: ShutdownController
