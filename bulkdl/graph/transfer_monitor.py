"""Observe the downloads of a run: their progress, the rate of their pool, and the transfer budget."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from bulkdl.failure_policy import ExitCode
from bulkdl.graph.autoscale import CONGESTION_REASONS
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.graph.worker_slots import WorkerSlot
from bulkdl.models import Output, Reason
from bulkdl.source_spec import kind_spec
from bulkdl.telemetry.events import Reporter, RetryScheduled, TransferAdvanced

# The speed of a younger transfer is not known yet.
_MIN_AGE_S = 1.0


@dataclass(slots=True)
class ActiveTransfer:
    """
    One download in progress.

    Attributes:
        started_s: Start, on the monotonic clock.
        downloaded_bytes: Bytes received over the network in this run.
        offset: Bytes available, including the bytes of earlier runs.
        total_bytes: Size of the object; None if the server does not report it.
        waiting: Whether the download waits for its next attempt.
        is_large: As in ``KindSpec``.
    """

    output: Output
    started_s: float
    downloaded_bytes: int = 0
    offset: int = 0
    total_bytes: int | None = None
    waiting: bool = False
    is_large: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_large = kind_spec(self.output.kind).is_large


def can_finish_within(transfer: ActiveTransfer, now_s: float, timeout_s: float) -> bool:
    """
    Return whether *transfer* will probably finish within *timeout_s*, at its average speed.

    Outputs that are not large are always assumed to finish. A transfer that waits for its next attempt and a
    large output that has not received any data are assumed not to finish: a later run loses nothing.
    """
    if transfer.waiting:
        return False
    if not transfer.is_large:
        return True
    elapsed_s = now_s - transfer.started_s
    if transfer.downloaded_bytes == 0:
        return elapsed_s < _MIN_AGE_S
    if transfer.total_bytes is None:
        return True
    remaining_bytes = transfer.total_bytes - transfer.offset
    return remaining_bytes * max(elapsed_s, 0.001) / transfer.downloaded_bytes <= timeout_s


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
        slot: The permit of the worker, whose pool has the meter of the throughput.
    """

    def __init__(
        self,
        active: ActiveTransfer,
        slot: WorkerSlot,
        budget: TransferBudget,
        reporter: Reporter,
    ) -> None:
        self._active = active
        self._slot = slot
        self._budget = budget
        self._reporter = reporter

    async def begin_body(self, total_bytes: int | None) -> None:
        """Wait for a permit of the large outputs if the body is large."""
        if self._slot.must_change(total_bytes):
            self._active.waiting = True
            await self._slot.change_to_large()
            self._active.waiting = False

    def received(self, offset_bytes: int, total_bytes: int | None, new_bytes: int) -> None:
        """Count *new_bytes*, and report the progress."""
        active = self._active
        active.waiting = False
        if active.is_large:
            self._slot.permits.meter.add(new_bytes)
        if not active.downloaded_bytes:
            self._slot.permits.meter.note_latency(time.monotonic() - active.started_s)
        active.offset, active.total_bytes = offset_bytes, total_bytes
        active.downloaded_bytes += new_bytes
        self._budget.spend(new_bytes)
        self._reporter.report(TransferAdvanced(active.output, offset_bytes, total_bytes, new_bytes))

    def retrying(self, reason: Reason, delay_s: float) -> None:
        """Record that the download waits, and report the retry."""
        self._active.waiting = delay_s > 0
        if reason in CONGESTION_REASONS:
            self._slot.permits.meter.note_congestion()
        self._reporter.report(RetryScheduled(self._active.output, reason, delay_s))
