"""
Whether this run can do its work: it has been let in, and its disk takes bytes.
"""

from __future__ import annotations

from bulkdl.models import Reason
from bulkdl.redaction import redact
from bulkdl.telemetry.endpoint_labels import STORAGE
from bulkdl.telemetry.events import Event, ProblemFound, RequestEnded


class Readiness:
    """A reporter that watches for the first answer of UP42 that was no refusal."""

    def __init__(self) -> None:
        self._logged_in = False
        self._refusal = ""

    def report(self, event: Event) -> None:
        """Take in *event*."""
        if isinstance(event, RequestEnded):
            succeeded = event.status is not None and 200 <= event.status < 300
            self._logged_in |= succeeded and event.endpoint != STORAGE
        elif isinstance(event, ProblemFound) and event.reason is Reason.CREDENTIALS:
            self._refusal = redact(event.detail)

    def reasons(self, disk_problem: str | None) -> list[str]:
        """Why it is not ready, in words; empty if it is."""
        reasons = []
        if not self._logged_in:
            reasons.append(f"not logged in: {self._refusal}" if self._refusal else "not logged in yet")
        if disk_problem is not None:
            reasons.append(f"the output directory {disk_problem}")
        return reasons
