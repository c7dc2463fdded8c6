"""One look at the ledger of an output directory, while a run is at work there or not."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from bulkdl.errors import ConfigError
from bulkdl.ledger import queries
from bulkdl.ledger.ledger import LEDGER_NAME, Ledger
from bulkdl.ledger.rows import moment
from bulkdl.model import Outcome, Reason
from bulkdl.report.rows import Count, FailureRow
from bulkdl.report.status import Status
from bulkdl.sink.local import STATE_FOLDER

FAILURES_KEPT = 1000


async def read_status(output: Path) -> Status:
    """
    Count what the ledger of *output* knows.

    Raises:
        ConfigError: There is no ledger.
        LedgerError: It cannot be read.
    """
    path = output / STATE_FOLDER / LEDGER_NAME
    if not await asyncio.to_thread(path.is_file):
        raise ConfigError(
            f"--output {output}", "holds no ledger; name a directory that bulkdl run has filled"
        )
    ledger = await Ledger.open(path, read_only=True)
    try:
        return await ledger.read(lambda connection: _status(connection, output))
    finally:
        await ledger.close()


def _status(connection: sqlite3.Connection, output: Path) -> Status:
    counts = {}
    failures_total = 0
    for kind, state, reason, outputs, size_bytes in queries.count_outputs(connection):
        counts[kind, state, reason] = Count(outputs, size_bytes)
        failures_total += outputs if state == Outcome.FAILED else 0
    failures = [
        FailureRow(
            known.output,
            known.receipt.key if known.receipt else None,
            known.reason or Reason.INTERNAL,
            detail,
            attempts,
        )
        for known, detail, attempts in queries.failed_outputs(connection, FAILURES_KEPT)
    ]
    return Status(
        output=str(output),
        jobs=queries.count_jobs(connection),
        counts=counts,
        failures=failures,
        failures_total=failures_total,
        last_run_at=moment(queries.last_run_at(connection)),
    )
