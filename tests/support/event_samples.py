"""Outputs and events for tests of the reporters."""

from datetime import UTC, datetime
from typing import Any

from bulkdl.models import Outcome, Output, Reason, Result
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.telemetry.events import TransferEnded

AT = datetime(2024, 3, 1, 2, 30, tzinfo=UTC)
ARCHIVE = job_output("p", "j", None, Kind.ARCHIVE)


def ended(
    output: Output, outcome: Outcome = Outcome.COMPLETED, reason: Reason = Reason.DOWNLOADED, **result: Any
) -> TransferEnded:
    return TransferEnded(Result(output, outcome, reason, **result))
