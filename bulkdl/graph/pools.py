"""
The download workers: one pool of a fixed number of workers for each kind, with one bounded queue.

The failure of an output does not affect other outputs, except a failure that all outputs would have, such as
a full disk. Such a failure stops the run.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from bulkdl.concurrency import Channel, ConcurrencyLimiter
from bulkdl.errors import BulkdlError, DownloadError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.graph.autoscale import (
    ConcurrencyController,
    ThroughputMeter,
    adapt_concurrency,
)
from bulkdl.graph.planning import SameObjectGroup
from bulkdl.graph.pool_limits import PoolLimits
from bulkdl.graph.reservations import ExclusiveKeys, OutputReservations
from bulkdl.graph.run_context import RunContext
from bulkdl.graph.transfer_monitor import (
    ActiveTransfer,
    TransferBudget,
    TransferMonitor,
    can_finish_within,
)
from bulkdl.graph.worker_slots import PoolPermits, WorkerSlot
from bulkdl.ledger import queries
from bulkdl.listings import PlannedOutput
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Outcome, Output, Reason, Result
from bulkdl.source_spec import kind_spec, output_fields, source_spec
from bulkdl.telemetry.events import TransferStarted
from bulkdl.transfer.context import BLOCK_BYTES, TransferContext
from bulkdl.transfer.download import Download, result_of_failure
from bulkdl.transfer.interfaces import MakeKey, TransferObserver

log = get_logger(__name__)

# The weight of a completed large output in the throughput of its pool, which is in bytes. It stands for its
# requests, whose number does not depend on its size. The throughput of the other pools is in outputs.
_LARGE_COMPLETION_WEIGHT = 1 << 20
_MIN_QUEUE_LENGTH = 64

FailureByObject = dict[str, Result]
"""The results of failed downloads, by the URL or the identity of the storage object."""


class RunStopped(Exception):
    """An output failed for a reason that every other output would fail for."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.detail)
        self.result = result


def find_global_identity(missing: PlannedOutput) -> str:
    """Return the identity of the stored object of *missing*; empty if other containers can use it."""
    return missing.identity if source_spec(missing.output.container.source).has_global_identities else ""


class OutputDownloader:
    """
    Downloads outputs. All workers share one instance.

    Args:
        transfers: The context that the downloads of a kind share, by kind.
        make_keys: Functions from an output to a function from its suffix to its key, by source.
    """

    def __init__(
        self,
        context: RunContext,
        transfers: Mapping[str, TransferContext],
        make_keys: Mapping[str, Callable[[PlannedOutput], MakeKey]],
    ) -> None:
        self._sources = context.sources
        self._storage = context.storage
        self._ledger = context.ledger
        self._transfers = transfers
        self._make_keys = make_keys

    async def download(
        self, missing: PlannedOutput, failed: FailureByObject, observer: TransferObserver
    ) -> Result:
        """
        Download *missing*, or link it to a file with the same storage object.

        Args:
            failed: Results of the earlier outputs of the same group. Their objects are not downloaded again.
                A failure of *missing* is added.
        """
        output, identity = missing.output, find_global_identity(missing)
        source = output.container.source
        remote_file, make_key = self._sources[source].open_output(output), self._make_keys[source](missing)
        object_key, same = identity or None, None
        try:
            if identity:  # a file of any container; no request is needed
                find = partial(queries.find_same_identity, output=output, identity=identity)
                same = await self._find_complete(await self._ledger.read(find))
            if same is None and object_key not in failed:
                await remote_file.prepare()
                object_key = object_key or remote_file.source
                if remote_file.source is not None:
                    find = partial(queries.find_same_object, output=output, source=remote_file.source)
                    same = await self._find_complete(await self._ledger.read(find))
            if same is not None:
                return await self._link(output, same, make_key)
        except DownloadError as failure:
            return result_of_failure(output, failure)
        if object_key is not None and object_key in failed:
            return replace(failed[object_key], output=output, attempts=0, downloaded_bytes=0)
        partial_file, context = self._storage.partial_file(output), self._transfers[output.kind]
        result = await Download(output, remote_file, partial_file, make_key, context, observer).run()
        is_failure = result.outcome is Outcome.FAILED and result.reason is not Reason.PATH_BLOCKED
        if object_key and is_failure:
            failed[object_key] = result
        return result

    async def remove_sidecar(self, result: Result) -> None:
        """Remove the sidecar of the downloaded output of *result*, which is durable in the ledger."""
        committed_file = result.file
        if committed_file is None or result.reason is not Reason.DOWNLOADED:
            return
        # A small body that was received at once has no sidecar.
        if committed_file.size_bytes >= BLOCK_BYTES or result.attempts > 1 or result.resumed_from_bytes:
            await self._storage.partial_file(result.output).forget()

    async def _find_complete(self, files: Iterable[CommittedFile]) -> CommittedFile | None:
        """Return the first of *files* that the destination has with its recorded size."""
        for file in files:
            info = (await self._storage.destination.stat([file.key])).get(file.key)
            if info is not None and info.size_bytes == file.size_bytes:
                return file
        return None

    async def _link(self, output: Output, existing: CommittedFile, make_key: MakeKey) -> Result:
        """Link *output* to *existing*, a file with the same object."""
        suffixes = kind_spec(output.kind).suffixes
        suffix = next((suffix for suffix in suffixes if existing.key.endswith(suffix)), "")
        info = await self._storage.destination.copy(existing.key, make_key(suffix))
        linked = replace(existing, key=info.key, version=info.version)
        return Result(output, Outcome.COMPLETED, Reason.LINKED, linked)


class Pools:
    """
    The pools of one run.

    Args:
        limiters: Concurrency of the workers, by kind. For large outputs, one permit is one connection.
        large_limiters: Concurrency of outputs whose responses announce a large size, by kind.
        max_transfer_bytes: Downloaded bytes after which the run is drained; 0 disables the limit.

    Attributes:
        queues: Outputs to download, by kind.
        reservations: Outputs that must not be queued again.
    """

    def __init__(
        self,
        context: RunContext,
        limits: Mapping[str, PoolLimits],
        limiters: Mapping[str, ConcurrencyLimiter],
        output_downloader: OutputDownloader,
        max_transfer_bytes: int,
        large_limiters: Mapping[str, ConcurrencyLimiter] | None = None,
    ) -> None:
        self.limits = limits
        self.queues: dict[str, Channel[SameObjectGroup]] = {
            kind: Channel(max(_MIN_QUEUE_LENGTH, 4 * limit.workers)) for kind, limit in limits.items()
        }
        self.reservations = OutputReservations()
        self._identities = ExclusiveKeys()
        self._permits = {kind: PoolPermits(limiters[kind], ThroughputMeter()) for kind in limits}
        self._large_permits = {
            kind: PoolPermits(limiter, ThroughputMeter()) for kind, limiter in (large_limiters or {}).items()
        }
        self._budget = TransferBudget(max_transfer_bytes, context.shutdown)
        self._output_downloader = output_downloader
        self._recorder = context.recorder
        self._reporter = context.reporter
        self._shutdown = context.shutdown
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

    async def adapt(self, kind: str) -> None:
        """Adapt the concurrency of the pool of *kind* to its throughput until cancelled."""
        pools = [(kind, self.limits[kind], self._permits[kind])]
        large = self.limits[kind].large
        if large is not None and kind in self._large_permits:
            pools.append((f"{kind} (large)", large, self._large_permits[kind]))
        await asyncio.gather(*(_adapt(*pool) for pool in pools))

    async def work(self, kind: str) -> None:
        """
        Worker: download one group after another.

        The worker keeps its permit while the queue has items and the concurrency is not above the limit.
        """
        queue = self.queues[kind]
        while await queue.wait_ready():
            slot = WorkerSlot(self._permits[kind], self._large_permits.get(kind))
            async with slot.hold():
                while slot.may_continue and (group := queue.get_nowait()) is not None:
                    await self._download_group(group, slot)
                    self.reservations.release(missing.output for missing in group)

    async def _download_group(self, group: SameObjectGroup, slot: WorkerSlot) -> None:
        """Download *group*, after a group of another container that has the same object."""
        identity = find_global_identity(group[0])
        if not identity:
            await self._download_in_order(group, slot)
            return
        has_begun = False
        try:
            async with self._identities.hold(identity):
                has_begun = True
                await self._download_in_order(group, slot)
        except BaseException:
            if not has_begun:  # the run is being stopped: every reserved output must end
                self.record_cancelled(group)
            raise

    async def _download_in_order(self, group: SameObjectGroup, slot: WorkerSlot) -> None:
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
            with structlog.contextvars.bound_contextvars(**output_fields(output), kind=output.kind):
                try:
                    await self._download(missing, failed, slot)
                except BaseException:  # the run is being stopped: every reserved output must end
                    self.record_cancelled(group[number:])
                    raise
            has_started = True

    async def _download(self, missing: PlannedOutput, failed: FailureByObject, slot: WorkerSlot) -> None:
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
            monitor = TransferMonitor(transfer, slot, self._budget, self._reporter)
            result = await self._download_isolated(missing, failed, monitor)
            result = await self._recorder.record(result)
        except BaseException:  # cancelled, or the result could not be recorded
            self._recorder.record_cancelled(output, downloaded_bytes=transfer.downloaded_bytes)
            raise
        finally:
            del self._active[worker]
        slot.permits.meter.add(_LARGE_COMPLETION_WEIGHT if transfer.is_large else 1)
        await self._recorder.deliver(result)
        await self._output_downloader.remove_sidecar(result)
        if (
            result.outcome is Outcome.FAILED
            and FAILURE_POLICIES[result.reason].action is RetryAction.STOP_RUN
        ):
            raise RunStopped(result)

    async def _download_isolated(
        self, missing: PlannedOutput, failed: FailureByObject, monitor: TransferMonitor
    ) -> Result:
        """Download *missing*; convert unexpected exceptions to a failure of this output."""
        output = missing.output
        try:
            return await self._output_downloader.download(missing, failed, monitor)
        except BulkdlError:
            raise
        except Exception as error:  # a defect may raise any exception
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                return Result(output, Outcome.FAILED, Reason.TOO_MANY_OPEN_FILES, detail=str(error.strerror))
            log.exception("transfer.crashed")
            return Result(output, Outcome.FAILED, Reason.INTERNAL, detail=type(error).__name__)


async def _adapt(name: str, limits: PoolLimits, permits: PoolPermits) -> None:
    """Adapt the permits of one pool until cancelled; *name* is its name in log events."""
    controller = ConcurrencyController(limits.min_permits, limits.max_permits, limits.start)
    with structlog.contextvars.bound_contextvars(kind=name):
        await adapt_concurrency(controller, permits.limiter, permits.meter)
