"""The last stage: records how each output ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from bulkdl.errors import BulkdlError
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import ProcessedRow
from bulkdl.ledger.rows import OutputRecord
from bulkdl.log import get_logger
from bulkdl.models import Outcome, Output, Reason, Result
from bulkdl.report.summary import SummaryBuilder
from bulkdl.telemetry.events import OutputProcessed, OutputSkipped, ProblemFound, Reporter, TransferEnded

log = get_logger(__name__)

Subscriber = Callable[[Result], Awaitable[None]]
"""Receives each result of a run after it is recorded. The download worker waits for it."""


class Recorder:
    """
    Records results in the ledger, the log, the summary and the reporter, in this order.

    A result is reported only after it is durable. The subscribers receive it last, in their order.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        summary: SummaryBuilder,
        reporter: Reporter,
        subscribers: Sequence[Subscriber] = (),
    ) -> None:
        self.summary = summary
        self._ledger = ledger
        self._run_id = run_id
        self._reporter = reporter
        self._subscribers = list(subscribers)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Add a subscriber; it receives a result after the subscribers before it."""
        self._subscribers.append(subscriber)

    async def record_result(self, result: Result) -> None:
        """Record *result* and send it to the subscribers; see ``record`` and ``deliver``."""
        await self.deliver(await self.record(result))

    async def deliver(self, result: Result) -> None:
        """Send the recorded *result* to the subscribers, one after another. They may be slow."""
        for subscriber in self._subscribers:
            await subscriber(result)

    async def record(self, result: Result) -> Result:
        """
        Record *result* in the ledger, the log, the summary and the reporter.

        The ledger makes the object of *result* durable first.

        Returns:
            The recorded result: *result*, or a failure if the ledger cannot store *result*.

        Raises:
            DestinationError: The disk of the ledger failed. The next run downloads the output again.
            LedgerError: The ledger cannot be used.
        """
        try:
            await self._write(result)
        except BulkdlError:
            raise
        except Exception as error:  # a value that cannot be stored concerns this output only
            log.exception("transfer.not_recorded")
            result = Result(
                result.output,
                Outcome.FAILED,
                Reason.INTERNAL,
                downloaded_bytes=result.downloaded_bytes,
                duration_s=result.duration_s,
                attempts=result.attempts,
                detail=f"the result cannot be recorded: {type(error).__name__}",
            )
            await self._write(result)
        self._notify(result)
        return result

    async def _write(self, result: Result) -> None:
        keys: tuple[str, ...] = ()
        if result.outcome is Outcome.COMPLETED and result.file is not None:
            keys = (result.file.key,)
        statement = partial(queries.record_results, results=[result], run_id=self._run_id)
        await self._ledger.write(statement, keys=keys)

    def record_cancelled(self, output: Output, *, downloaded_bytes: int = 0) -> None:
        """Report *output* as cancelled. Its ledger row does not change: the output is still planned."""
        self._notify(Result(output, Outcome.CANCELLED, Reason.STOPPED, downloaded_bytes=downloaded_bytes))

    def record_skipped(self, outputs: tuple[OutputRecord, ...]) -> None:
        """Record *outputs* that are up to date or not available."""
        # One count for each kind: a run over many complete containers spends most of its time here.
        sizes: dict[tuple[str, bool], list[int]] = {}
        for record in outputs:
            is_absent = record.is_not_available
            size_bytes = 0 if is_absent or record.file is None else record.file.size_bytes
            sizes.setdefault((record.output.kind, is_absent), []).append(size_bytes)
            reason = Reason.NOT_AVAILABLE if is_absent else Reason.UP_TO_DATE
            self._reporter.report(OutputSkipped(record.output, reason))
        for (kind, is_absent), group in sizes.items():
            reason = Reason.NOT_AVAILABLE if is_absent else Reason.UP_TO_DATE
            self.summary.count(kind, Outcome.SKIPPED, reason, len(group), sum(group))

    def record_problem(
        self,
        reason: Reason,
        subject: str,
        detail: str,
        *,
        source: str | None = None,
        scope: str | None = None,
    ) -> None:
        """
        Record a failure that does not belong to one output.

        Args:
            source: The source of *subject*; None if the problem concerns the whole run.
            scope: The scope of *subject*, to detect scopes whose credentials are rejected.
        """
        log.error("problem.found", subject=subject, source=source, reason=reason.value, detail=detail)
        self.summary.add_problem(reason, subject, detail, source=source, scope=scope)
        self._reporter.report(ProblemFound(reason, subject, detail, source))

    def record_processed(
        self, row: ProcessedRow, reason: Reason | None, *, output: Output | None, duration_s: float
    ) -> None:
        """
        Report the recorded result of a processor.

        Args:
            reason: The reason of a failure, otherwise None. A failure counts as a problem of the run.
            output: The processed output; None for the step at the end of a run.
        """
        size_bytes = sum(file.size_bytes for file in row.files)
        outputs = 0 if output is None else 1
        log.info(
            "output.processed",
            processor=row.processor,
            state=row.state,
            files=len(row.files),
            size_bytes=size_bytes,
            duration_s=round(duration_s, 3),
            **({"detail": row.detail} if row.detail else {}),
        )
        self.summary.count_derived(row.processor, row.state, outputs, len(row.files), size_bytes)
        self._reporter.report(
            OutputProcessed(row.processor, output, Outcome(row.state), len(row.files), size_bytes)
        )
        if reason is not None:
            subject = f"processor {row.processor}" + (f", {output}" if output is not None else "")
            self.record_problem(reason, subject, row.detail.removeprefix(f"{reason}: "))

    def _notify(self, result: Result) -> None:
        _log_result(result)
        self.summary.add(result)
        self._reporter.report(TransferEnded(result))


def _log_result(result: Result) -> None:
    level = log.warning if result.outcome is Outcome.FAILED else log.info
    committed_file = result.file
    level(
        f"transfer.{result.outcome}",
        reason=result.reason.value,
        key=committed_file.key if committed_file else None,
        size_bytes=committed_file.size_bytes if committed_file else None,
        downloaded_bytes=result.downloaded_bytes,
        duration_s=round(result.duration_s, 3),
        attempts=result.attempts,
        resumed_from_bytes=result.resumed_from_bytes,
        **({"detail": result.detail} if result.detail else {}),
    )
