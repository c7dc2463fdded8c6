"""Observe the downloads of a run: their progress, the rate of their pool, and the transfer budget."""

from __future__ import annotations

import time

from bulkdl.failure_policy import ExitCode
from bulkdl.graph.autoscale import CONGESTION_REASONS, ThroughputMeter
from bulkdl.graph.flight import ActiveTransfer
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.models import Kind, Output, Reason
from bulkdl.telemetry.events import Reporter, RetryScheduled, TransferAdvanced


class TransferBudget:
    """
    The bytes that a run may download.

    Args:
        max_bytes: Limit of the run; 0 is no limit.
    """

    def __init__(self, max_bytes: int, shutdown: ShutdownController) -> None:
        self._max_bytes = max_bytes
        self._shutdown = shutdown
        self._downloaded_bytes = 0

    def spend(self, size_bytes: int) -> None:
        """Count *size_bytes*; drain the run when the budget is used up."""
        self._downloaded_bytes += size_bytes
        if self._max_bytes and self._downloaded_bytes >= self._max_bytes:
            self._shutdown.drain(ExitCode.MAX_TRANSFER)


class TransferMonitor:
    """
    The observer of one download.

    Args:
        active: The state of the download that the run and the reports use.
        meter: Measures the rate of its pool.
    """

    def __init__(
        self,
        output: Output,
        active: ActiveTransfer,
        meter: ThroughputMeter,
        budget: TransferBudget,
        reporter: Reporter,
    ) -> None:
        self._output = output
        self._active = active
        self._meter = meter
        self._budget = budget
        self._reporter = reporter

    def received(self, offset_bytes: int, total_bytes: int | None, new_bytes: int) -> None:
        """Count *new_bytes*, and report the progress."""
        active = self._active
        active.waiting = False
        if self._output.kind is Kind.ARCHIVE:
            self._meter.add(new_bytes)
        if not active.downloaded_bytes:
            self._meter.note_latency(time.monotonic() - active.started_s)
        active.offset, active.total_bytes = offset_bytes, total_bytes
        active.downloaded_bytes += new_bytes
        self._budget.spend(new_bytes)
        self._reporter.report(TransferAdvanced(self._output, offset_bytes, total_bytes, new_bytes))

    def retrying(self, reason: Reason, delay_s: float) -> None:
        """Record that the download waits, and report the retry."""
        self._active.waiting = delay_s > 0
        if reason in CONGESTION_REASONS:
            self._meter.note_trouble()
        self._reporter.report(RetryScheduled(self._output, reason, delay_s))
