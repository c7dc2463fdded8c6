"""
The last stage: what became of an output goes into the ledger, the log, the summary and to whoever
watches. In this order, so that nothing is told before it is durable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from bulkdl.errors import BulkdlError
from bulkdl.ledger import queries
from bulkdl.ledger.ledger import Ledger
from bulkdl.ledger.rows import KnownOutput
from bulkdl.log import get_logger
from bulkdl.model import Outcome, Output, Reason, Result
from bulkdl.report.summary import SummaryBuilder
from bulkdl.telemetry.events import OutputSettled, ProblemFound, Reporter, TransferEnded

log = get_logger(__name__)

Listener = Callable[[Result], Awaitable[None]]
"""Takes each result of a run; used by the library's async iterator."""


class Recorder:
    """Writes down how each output ended."""

    def __init__(
        self,
        ledger: Ledger,
        run_id: str,
        summary: SummaryBuilder,
        reporter: Reporter,
        listener: Listener | None = None,
        *,
        locate: Callable[[str], Path],
    ) -> None:
        self.summary = summary
        self._ledger = ledger
        self._run_id = run_id
        self._reporter = reporter
        self._listener = listener
        self._locate = locate

    async def ended(self, result: Result) -> Result:
        """
        Record *result*; the name of its file, if any, is made durable first.

        Returns:
            What was recorded: *result*, or a failure if the ledger cannot hold it.

        Raises:
            SinkFailure: The ledger's disk refuses; the next run finds the file and fetches again.
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
                moved_bytes=result.moved_bytes,
                duration_s=result.duration_s,
                attempts=result.attempts,
                detail=f"the result cannot be recorded: {type(error).__name__}",
            )
            await self._write(result)
        self._tell(result)
        if self._listener is not None:
            await self._listener(result)
        return result

    async def _write(self, result: Result) -> None:
        folder = None
        if result.outcome is Outcome.COMPLETED and result.receipt is not None:
            folder = self._locate(result.receipt.key).parent
        record = partial(queries.record, results=[result], run_id=self._run_id)
        await self._ledger.write(record, folder=folder)

    def cancelled(self, output: Output, *, moved_bytes: int = 0) -> None:
        """*output* was stopped before its end. The ledger needs no word of it: it is still planned."""
        self._tell(Result(output, Outcome.CANCELLED, Reason.STOPPED, moved_bytes=moved_bytes))

    def settled(self, outputs: tuple[KnownOutput, ...]) -> None:
        """These were there already, or are known not to exist."""
        for known in outputs:
            reason = Reason.NOT_AVAILABLE if known.is_not_available else Reason.ALREADY_THERE
            size_bytes = known.receipt.size_bytes if known.receipt and known.completed else 0
            self.summary.count(known.output.kind, Outcome.SKIPPED, reason, 1, size_bytes)
            self._reporter.report(OutputSettled(known.output, reason))

    def problem(self, reason: Reason, what: str, detail: str, *, project_id: str | None = None) -> None:
        """Something that is no single output went wrong."""
        log.error("problem.found", what=what, reason=reason.value, detail=detail)
        self.summary.add_problem(reason, what, detail, project_id=project_id)
        self._reporter.report(ProblemFound(reason, what, detail))

    def _tell(self, result: Result) -> None:
        _log_line(result)
        self.summary.add(result)
        self._reporter.report(TransferEnded(result))


def _log_line(result: Result) -> None:
    level = log.warning if result.outcome is Outcome.FAILED else log.info
    receipt = result.receipt
    level(
        f"transfer.{result.outcome}",
        reason=result.reason.value,
        key=receipt.key if receipt else None,
        size_bytes=receipt.size_bytes if receipt else None,
        moved_bytes=result.moved_bytes,
        duration_s=round(result.duration_s, 3),
        attempts=result.attempts,
        resumed_from_bytes=result.resumed_from_bytes,
        **({"detail": result.detail} if result.detail else {}),
    )
