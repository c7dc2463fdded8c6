"""
The download workers: one pool of a fixed number of workers for each kind, with one bounded queue.

The failure of an output does not affect other outputs, except a failure that all outputs would have, such as
a full disk. Such a failure stops the run.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from bulkdl.concurrency import Channel, ConcurrencyLimiter
from bulkdl.errors import BulkdlError
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode, RetryAction
from bulkdl.graph.autoscale import (
    CONGESTION_REASONS,
    ConcurrencyController,
    ThroughputMeter,
    adapt_concurrency,
)
from bulkdl.graph.download_output import FailureByObject, OutputDownloader
from bulkdl.graph.pool_limits import PoolLimits
from bulkdl.graph.reservations import OutputReservations
from bulkdl.graph.run_context import RunContext
from bulkdl.log import get_logger
from bulkdl.models import Kind, Outcome, Output, Reason, Result
from bulkdl.sources.up42_jobs.planning import MissingOutput, SameObjectGroup
from bulkdl.telemetry.events import RetryScheduled, TransferAdvanced, TransferStarted

log = get_logger(__name__)

# The weight of a completed output in the throughput of its pool. The throughput of archives is in bytes. The
# weight of an archive stands for its requests, whose number does not depend on its size.
_COMPLETION_WEIGHT = {Kind.ARCHIVE: 1 << 20, Kind.QUICKLOOK: 1, Kind.GEOJSON: 1}
_MIN_QUEUE_LENGTH = 64
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
    """

    output: Output
    started_s: float
    downloaded_bytes: int = 0
    offset: int = 0
    total_bytes: int | None = None
    waiting: bool = False


def can_finish_within(transfer: ActiveTransfer, now_s: float, timeout_s: float) -> bool:
    """
    Return whether *transfer* will probably finish within *timeout_s*, at its average speed.

    Small outputs are always assumed to finish. A transfer that waits for its next attempt and an archive that
    has not received any data are assumed not to finish: a later run loses nothing.
    """
    if transfer.waiting:
        return False
    if transfer.output.kind is not Kind.ARCHIVE:
        return True
    elapsed_s = now_s - transfer.started_s
    if transfer.downloaded_bytes == 0:
        return elapsed_s < _MIN_AGE_S
    if transfer.total_bytes is None:
        return True
    remaining_bytes = transfer.total_bytes - transfer.offset
    return remaining_bytes * max(elapsed_s, 0.001) / transfer.downloaded_bytes <= timeout_s


class RunStopped(Exception):
    """An output failed for a reason that every other output would fail for."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.detail)
        self.result = result


class Pools:
    """
    The pools of one run.

    Args:
        limiters: Concurrency of the workers, by kind. For archives, one permit is one connection.
        max_transfer_bytes: Downloaded bytes after which the run is drained; 0 disables the limit.

    Attributes:
        queues: Outputs to download, by kind.
        reservations: Outputs that must not be queued again.
    """

    def __init__(
        self,
        context: RunContext,
        limits: Mapping[Kind, PoolLimits],
        limiters: Mapping[Kind, ConcurrencyLimiter],
        output_downloader: OutputDownloader,
        max_transfer_bytes: int,
    ) -> None:
        self.limits = limits
        self.queues: dict[Kind, Channel[SameObjectGroup]] = {
            kind: Channel(max(_MIN_QUEUE_LENGTH, 4 * limit.workers)) for kind, limit in limits.items()
        }
        self.reservations = OutputReservations()
        self._limiters = limiters
        self._meters = {kind: ThroughputMeter() for kind in Kind}
        self._max_transfer_bytes = max_transfer_bytes
        self._output_downloader = output_downloader
        self._recorder = context.recorder
        self._reporter = context.reporter
        self._shutdown = context.shutdown
        self._downloaded_bytes = 0
        self._active: dict[asyncio.Task[Any], ActiveTransfer] = {}

    async def put(self, group: SameObjectGroup) -> None:
        """
        Put *group*, whose outputs are reserved, into its queue; wait while the queue is full.

        If the run is stopped during the wait, the outputs are recorded as cancelled.
        """
        try:
            await self.queues[group[0].output.kind].put(group)
        except BaseException:
            self.record_cancelled(group)
            raise

    def cancel_queued(self) -> None:
        """Close the queues, and record the outputs in them as cancelled."""
        for queue in self.queues.values():
            for group in queue.close_and_drain():
                self.record_cancelled(group)

    def record_cancelled(self, group: SameObjectGroup) -> None:
        """Record the outputs of *group*, which have not been started, as cancelled."""
        for missing in group:
            self._recorder.record_cancelled(missing.output)

    def cancel_slow_transfers(self, timeout_s: float) -> None:
        """Cancel, once, each worker whose transfer will not finish within *timeout_s*."""
        now_s = time.monotonic()
        for worker, transfer in list(self._active.items()):
            if not worker.cancelling() and not can_finish_within(transfer, now_s, timeout_s):
                worker.cancel()

    async def adapt(self, kind: Kind) -> None:
        """Adapt the concurrency of the pool of *kind* to its throughput until cancelled."""
        meter, limits = self._meters[kind], self.limits[kind]
        controller = ConcurrencyController(limits.min_permits, limits.max_permits, limits.start)
        with structlog.contextvars.bound_contextvars(kind=kind.value):
            await adapt_concurrency(controller, self._limiters[kind], meter)

    async def work(self, kind: Kind) -> None:
        """
        Worker: download one group after another.

        The worker keeps its permit while the queue has items and the concurrency is not above the limit.
        """
        queue, limiter = self.queues[kind], self._limiters[kind]
        while await queue.wait_ready():
            await limiter.acquire()
            try:
                while not limiter.is_over_limit and (group := queue.get_nowait()) is not None:
                    await self._download_group(group)
                    self.reservations.release(missing.output for missing in group)
            finally:
                limiter.release()

    async def _download_group(self, group: SameObjectGroup) -> None:
        """
        Download the outputs of *group* in order.

        A group that has started is completed when a budget is used up: its other outputs cost only a link.
        """
        failed: FailureByObject = {}
        has_started = False
        for number, missing in enumerate(group, start=1):
            output = missing.output
            if self._shutdown.requested or (self._shutdown.draining.is_set() and not has_started):
                self._recorder.record_cancelled(output)
                continue
            with structlog.contextvars.bound_contextvars(
                project_id=output.project_id,
                job_id=output.job_id,
                task_id=output.task_id,
                kind=output.kind.value,
            ):
                try:
                    await self._download(missing, failed)
                except BaseException:  # the run is being stopped: every reserved output must end
                    self.record_cancelled(group[number:])
                    raise
            has_started = True

    async def _download(self, missing: MissingOutput, failed: FailureByObject) -> None:
        """
        Download *missing* and record the result.

        Raises:
            RunStopped: The failure would affect every other output.
        """
        output = missing.output
        worker = asyncio.current_task()
        assert worker is not None  # noqa: S101 - workers are tasks
        transfer = self._active[worker] = ActiveTransfer(output, time.monotonic())
        self._reporter.report(TransferStarted(output))
        try:
            result = await self._download_isolated(missing, failed, transfer)
            result = await self._recorder.record(result)
        except BaseException:  # cancelled, or the result could not be recorded
            self._recorder.record_cancelled(output, downloaded_bytes=transfer.downloaded_bytes)
            raise
        finally:
            del self._active[worker]
        self._meters[output.kind].add(_COMPLETION_WEIGHT[output.kind])
        await self._recorder.deliver(result)
        await self._output_downloader.remove_sidecar(result)
        if (
            result.outcome is Outcome.FAILED
            and FAILURE_POLICIES[result.reason].action is RetryAction.STOP_RUN
        ):
            raise RunStopped(result)

    async def _download_isolated(
        self, missing: MissingOutput, failed: FailureByObject, transfer: ActiveTransfer
    ) -> Result:
        """Download *missing*; convert unexpected exceptions to a failure of this output."""
        output = missing.output
        try:
            return await self._output_downloader.download(
                missing,
                failed,
                progress=partial(self._on_progress, transfer),
                retry_scheduled=partial(self._on_retry_scheduled, transfer),
            )
        except BulkdlError:
            raise
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                log.exception("transfer.crashed")
                return Result(output, Outcome.FAILED, Reason.INTERNAL, detail=type(error).__name__)
            return Result(output, Outcome.FAILED, Reason.TOO_MANY_OPEN_FILES, detail=str(error.strerror))
        except Exception as error:  # a defect may raise any exception
            log.exception("transfer.crashed")
            return Result(output, Outcome.FAILED, Reason.INTERNAL, detail=type(error).__name__)

    def _on_progress(
        self, transfer: ActiveTransfer, offset: int, total_bytes: int | None, downloaded_bytes: int
    ) -> None:
        """Count *downloaded_bytes* new bytes of *transfer*, and drain the run when its budget is used up."""
        output = transfer.output
        meter = self._meters[output.kind]
        if output.kind is Kind.ARCHIVE:
            meter.add(downloaded_bytes)
        if not transfer.downloaded_bytes:
            meter.note_latency(time.monotonic() - transfer.started_s)
        transfer.waiting = False
        transfer.offset, transfer.total_bytes = offset, total_bytes
        transfer.downloaded_bytes += downloaded_bytes
        self._downloaded_bytes += downloaded_bytes
        if self._max_transfer_bytes and self._downloaded_bytes >= self._max_transfer_bytes:
            self._shutdown.drain(ExitCode.MAX_TRANSFER)
        self._reporter.report(TransferAdvanced(output, offset, total_bytes, downloaded_bytes))

    def _on_retry_scheduled(self, transfer: ActiveTransfer, reason: Reason, delay_s: float) -> None:
        transfer.waiting = delay_s > 0
        if reason in CONGESTION_REASONS:
            self._meters[transfer.output.kind].note_congestion()
        self._reporter.report(RetryScheduled(transfer.output, reason, delay_s))
