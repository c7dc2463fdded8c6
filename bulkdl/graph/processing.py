"""
The stage after the recorder: runs the processors on recorded outputs.

    recorder ─► queue ─► workers ─► derived files ─► ledger
    ledger (outputs without a current result) ─► queue

The recorder never waits for this stage. If the queue is full, the output is not queued: the stage reads the
pending outputs from the ledger when the queue is empty, and again after the last download. At the start of a
run it reads the outputs that an earlier run left, so a killed run is resumed in the same way. The next run
also tries failed outputs again, once.

The first request to stop lets the running calls finish within the shutdown timeout, the second request
cancels them. Outputs that were not processed stay pending in the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import structlog

from bulkdl.concurrency import Channel, ChannelClosed, Executors, WaitQueue, run_in, shield_until_done
from bulkdl.destinations.interfaces import Destination
from bulkdl.destinations.registry import require_folders
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.obsolete_files import remove_obsolete_files
from bulkdl.graph.prepared_outputs import PreparedOutputs
from bulkdl.graph.processing_ledger import completed_output, iter_pending
from bulkdl.graph.processor_calls import ProcessingContext, ProcessorCalls
from bulkdl.graph.run_context import LockedRun
from bulkdl.graph.scratch import remove_scratch
from bulkdl.graph.unpacked_archives import remove_replaced_archives
from bulkdl.ledger import derived_queries
from bulkdl.log import get_logger
from bulkdl.models import Outcome, Output, Result, UnpackMode
from bulkdl.processors.interfaces import CompletedOutput, Processor
from bulkdl.processors.registry import load_processors
from bulkdl.selection import SelectionBySource, includes_recorded
from bulkdl.settings import Settings
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.sources.registry import installed_layouts
from bulkdl.state.storage import Storage

log = get_logger(__name__)

_QUEUE_LENGTH = 256


@dataclass(frozen=True, slots=True)
class _Item:
    processor: Processor
    output: Output
    include_failed: bool

    @property
    def identity(self) -> tuple[str, Output]:
        return self.processor.name, self.output


@dataclass(frozen=True, slots=True)
class Processing:
    """The enabled processors, and the threads for their work."""

    processors: Sequence[Processor]
    executors: Executors

    def new_stage(self, run: LockedRun, selections: SelectionBySource, settings: Settings) -> ProcessingStage:
        """Create the stage of one run for the outputs of *selections*."""
        context = ProcessingContext(
            run_id=run.run_id,
            storage=run.storage,
            ledger=run.ledger,
            recorder=run.recorder,
            shutdown=run.shutdown,
            executors=self.executors,
            documents=PathMatcher(installed_layouts(settings)),
            selects=partial(includes_recorded, selections),
            workers=settings.processing_threads,
            shutdown_timeout_s=settings.shutdown_timeout,
            max_duration_s=settings.max_duration,
            replaces_archives=settings.unpack is UnpackMode.REPLACE,
        )
        return ProcessingStage(self.processors, context)


def create_processing(
    settings: Settings, processors: Sequence[Processor] | None, storage: Storage, executors: Executors
) -> Processing | None:
    """
    Return the processing with *processors*, by default with those of *settings*; None without processors.

    Raises:
        ConfigError: A processor cannot be created, or it cannot use the destination.
    """
    if processors is None:
        processors = load_processors(settings.enabled_processors, settings.processor_settings)
    check_destination(processors, storage.destination)
    return Processing(processors, executors) if processors else None


def check_destination(processors: Sequence[Processor], destination: Destination) -> None:
    """
    Check that the processors can use *destination*.

    Raises:
        ConfigError: One of them requires folders, which *destination* does not have.
    """
    for processor in processors:
        if processor.requires_folders:
            require_folders(destination, f"the processor {processor.name} requires folders")


class ProcessingStage:
    """
    Runs *processors* during one run. ``enqueue`` is a subscriber of the recorder.

    Attributes:
        prepared: Lets the processors work during the inspection of downloads.
    """

    def __init__(self, processors: Sequence[Processor], context: ProcessingContext) -> None:
        self._processors = list(processors)
        self._context = context
        self.prepared = PreparedOutputs(context.storage)
        self._calls = ProcessorCalls(context, self.prepared)
        self._queue: Channel[_Item] = Channel(_QUEUE_LENGTH)
        self._active: set[tuple[str, Output]] = set()
        self._changed = WaitQueue()
        self._has_unqueued = False
        self._input_ended = False
        self._draining = False
        self._is_complete = False

    async def enqueue(self, result: Result) -> None:
        """Queue the output of *result*, which is recorded; return at once, even if the queue is full."""
        if result.outcome is not Outcome.COMPLETED or result.file is None:
            return
        completed = CompletedOutput(result.output, result.file)
        for processor in self._processors:
            is_accepted = _accepts(processor, completed)
            if is_accepted and not self._queue.offer(_Item(processor, result.output, include_failed=True)):
                self._has_unqueued = True

    def end_input(self) -> None:
        """Report that no further results follow."""
        self._input_ended = True
        self._changed.notify_all()

    async def execute(self) -> None:
        """Process outputs until the input has ended and no output is pending, or the run is stopped."""
        started_s = time.monotonic()
        opened: list[Processor] = []
        try:
            await run_in(self._context.executors.disk, remove_scratch, self._context.storage)
            await self._open_all(opened)
            self.prepared.open(opened)
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._work_all(), name="processing")
                supervisor = group.create_task(self._supervise(work, started_s), name="processing-stop")
                await asyncio.wait([work])
                supervisor.cancel()
        finally:
            await shield_until_done(run_in(self._context.executors.disk, self.prepared.close))
            for processor in opened:
                await self._close(processor)
        if not self._is_complete and self._context.shutdown.cause is None:
            self._context.shutdown.cause = ExitCode.MAX_DURATION

    async def _open_all(self, opened: list[Processor]) -> None:
        """Open the processors; a processor that fails is not used in this run."""
        for processor in tuple(self._processors):
            try:
                await processor.open()
            except Exception as error:  # noqa: BLE001 - recorded as a problem
                self._calls.record_problem(processor, error)
                self._processors.remove(processor)
            else:
                opened.append(processor)

    async def _close(self, processor: Processor) -> None:
        try:
            await processor.close()
        except Exception as error:  # noqa: BLE001 - recorded as a problem
            self._calls.record_problem(processor, error)

    async def _work_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._feed(), name="processing-feed")
            for number in range(self._context.workers):
                group.create_task(self._work(), name=f"processing-{number}")
        if not self._draining:
            for processor in self._processors:
                await self._calls.finish(processor)
            await remove_obsolete_files(self._context)
            if self._context.replaces_archives:
                await remove_replaced_archives(self._context)
            self._is_complete = True

    async def _supervise(self, work: asyncio.Task[None], started_s: float) -> None:
        """Wait for the request to stop or the maximum duration; then drain the stage."""
        shutdown, max_duration_s = self._context.shutdown, self._context.max_duration_s
        with suppress(TimeoutError):
            left_s = max(0.0, max_duration_s - (time.monotonic() - started_s)) if max_duration_s else None
            async with asyncio.timeout(left_s):
                await shutdown.stopping.wait()
        log.warning("processing.draining", shutdown_timeout_s=self._context.shutdown_timeout_s)
        self._draining = True
        self._queue.close_and_drain()
        self._changed.notify_all()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._context.shutdown_timeout_s):
                await shutdown.aborting.wait()
        work.cancel()

    async def _feed(self) -> None:
        """Queue the outputs that are pending in the ledger, whenever the queue could not take all results."""
        try:
            await self._queue_pending(include_failed=True)
            while True:
                await self._changed.wait_for(self._is_ready_to_feed)
                if self._draining or not self._has_unqueued:
                    break
                self._has_unqueued = False
                await self._queue_pending(include_failed=False)
        except ChannelClosed:
            return  # the stage is being drained
        self._queue.close()

    def _is_ready_to_feed(self) -> bool:
        return self._draining or self._input_ended or (self._has_unqueued and not len(self._queue))

    async def _queue_pending(self, *, include_failed: bool) -> None:
        ledger = self._context.ledger
        for processor in self._processors:
            async for pending in iter_pending(ledger, processor, include_failed=include_failed):
                completed = completed_output(pending)
                if self._context.selects(completed.output) and _accepts(processor, completed):
                    await self._queue.put(_Item(processor, completed.output, include_failed))

    async def _work(self) -> None:
        async for item in self._queue:
            self._changed.notify_all()
            if item.identity in self._active:
                continue
            self._active.add(item.identity)
            try:
                await self._process_if_pending(item)
            finally:
                self._active.discard(item.identity)

    async def _process_if_pending(self, item: _Item) -> None:
        processor = item.processor
        pending = await self._context.ledger.read(
            partial(
                derived_queries.find_pending,
                output=item.output,
                processor=processor.name,
                version=processor.version,
                include_failed=item.include_failed,
            )
        )
        if pending is not None:
            with structlog.contextvars.bound_contextvars(processor=processor.name, output=str(item.output)):
                await self._calls.process(processor, pending)


def _accepts(processor: Processor, completed: CompletedOutput) -> bool:
    """Return whether the processor accepts the output, or fails: the worker then records the failure."""
    try:
        return processor.accepts(completed)
    except Exception:  # noqa: BLE001 - the worker repeats the call and records the failure
        return True
