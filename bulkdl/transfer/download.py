"""
One transfer from beginning to outcome: attempts, and what the table of reactions says between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bulkdl.errors import ApiError, DownloadError
from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.http.retry import RetryDecision
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Outcome, Output, Reason, Result
from bulkdl.transfer.context import TransferContext
from bulkdl.transfer.interfaces import Name, PartialFilePort, Progress, RemoteFile, RetryCallback
from bulkdl.transfer.reception import Download

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """
    Brings outputs into parts and publishes them; one serves all workers.

    Attributes:
        means: What all transfers share.
    """

    context: TransferContext

    async def fetch(
        self,
        output: Output,
        origin: RemoteFile,
        part: PartialFilePort,
        name: Name,
        *,
        progress: Progress,
        retry_scheduled: Callable[[Reason, float], None],
    ) -> Result:
        """
        Bring *output* to its end, whatever that is.

        Cancelling leaves the part usable. Every other end is a Result: completed, skipped because
        UP42 has none, or failed for good as far as this run goes.
        """
        started_s = time.monotonic()
        attempts = 1

        def retried(failure: DownloadError, verdict: RetryDecision) -> None:
            nonlocal attempts
            attempts += 1
            _log_retry(failure, verdict)
            retry_scheduled(failure.reason, verdict.delay_s)

        reception = Download(output, part, self.context, progress, retried)
        try:
            await origin.prepare()
            receipt = await reception.restore(origin) if origin.resumable else None
            if receipt is None:
                receipt = await self._persist(reception, origin, name, retried)
            ended = Result(output, Outcome.COMPLETED, Reason.DOWNLOADED, receipt)
        except DownloadError as failure:
            ended = ended_by(output, failure)
        finally:
            part.close()
        return replace(
            ended,
            attempts=attempts,
            downloaded_bytes=reception.downloaded_bytes,
            resumed_from_bytes=reception.resumed_from_bytes,
            duration_s=time.monotonic() - started_s,
        )

    async def _persist(
        self, reception: Download, origin: RemoteFile, name: Name, retried: RetryCallback
    ) -> CommittedFile:
        retry_state = self.context.new_retry_state()
        most_bytes = reception.kept_bytes
        while True:
            address = await origin.prepare()  # its failure is final: the API client has tried again itself
            try:
                return await reception.attempt(origin, name)
            except DownloadError as failure:
                verdict = retry_state.record(failure, progressed=reception.kept_bytes > most_bytes)
                most_bytes = max(most_bytes, reception.kept_bytes)
                if FAILURE_POLICIES[failure.reason].action is RetryAction.RESTART:
                    await reception.restart_after(failure)  # nor may a later run go on with these bytes
                    most_bytes = reception.kept_bytes
                if verdict.action in (RetryAction.GIVE_UP, RetryAction.STOP_RUN):
                    raise
                if verdict.action is RetryAction.RENEW_URL:
                    origin.renew(address)
                if verdict.action is RetryAction.RESTART and not reception.kept_bytes:
                    log.warning("transfer.restarted", reason=failure.reason.value, detail=failure.detail)
                retried(failure, verdict)
                await self.context.sleep(verdict.delay_s)


def _log_retry(failure: DownloadError, verdict: RetryDecision) -> None:
    log.info(
        "transfer.retry_scheduled",
        reason=failure.reason.value,
        detail=failure.detail,
        delay_s=round(verdict.delay_s, 3),
    )


def ended_by(output: Output, failure: DownloadError) -> Result:
    """
    Return how *failure*, which persists, ends *output*.

    An output that the API itself reports as not found is not available, which is not a failure.
    """
    outcome, reason = Outcome.FAILED, failure.reason
    if reason is Reason.NOT_FOUND and isinstance(failure, ApiError):
        outcome, reason = Outcome.SKIPPED, Reason.NOT_AVAILABLE
    return Result(output, outcome, reason, attempts=1, detail=failure.detail)
