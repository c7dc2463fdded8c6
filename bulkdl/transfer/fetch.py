"""
One transfer from beginning to outcome: attempts, and what the table of reactions says between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bulkdl.errors import ApiFailure, Failure
from bulkdl.http.retry import Verdict
from bulkdl.log import get_logger
from bulkdl.model import Outcome, Output, Reason, Receipt, Result
from bulkdl.reactions import REACTIONS, Step
from bulkdl.transfer.means import Means
from bulkdl.transfer.ports import Name, Origin, Part, Progress, Retried
from bulkdl.transfer.reception import Reception

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """
    Brings outputs into parts and publishes them; one serves all workers.

    Attributes:
        means: What all transfers share.
    """

    means: Means

    async def fetch(
        self,
        output: Output,
        origin: Origin,
        part: Part,
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

        def retried(failure: Failure, verdict: Verdict) -> None:
            nonlocal attempts
            attempts += 1
            _log_retry(failure, verdict)
            retry_scheduled(failure.reason, verdict.delay_s)

        reception = Reception(output, part, self.means, progress, retried)
        try:
            await origin.prepare()
            receipt = await reception.restore(origin) if origin.resumable else None
            if receipt is None:
                receipt = await self._persist(reception, origin, name, retried)
            ended = Result(output, Outcome.COMPLETED, Reason.FETCHED, receipt)
        except Failure as failure:
            ended = ended_by(output, failure)
        finally:
            part.close()
        return replace(
            ended,
            attempts=attempts,
            moved_bytes=reception.moved_bytes,
            resumed_from_bytes=reception.resumed_from_bytes,
            duration_s=time.monotonic() - started_s,
        )

    async def _persist(self, reception: Reception, origin: Origin, name: Name, retried: Retried) -> Receipt:
        patience = self.means.patience()
        most_bytes = reception.kept_bytes
        while True:
            address = await origin.prepare()  # its failure is final: the API client has tried again itself
            try:
                return await reception.attempt(origin, name)
            except Failure as failure:
                verdict = patience.judge(failure, progressed=reception.kept_bytes > most_bytes)
                most_bytes = max(most_bytes, reception.kept_bytes)
                if REACTIONS[failure.reason].step is Step.RESTART:
                    await reception.restart_after(failure)  # nor may a later run go on with these bytes
                    most_bytes = reception.kept_bytes
                if verdict.step in (Step.GIVE_UP, Step.STOP_RUN):
                    raise
                if verdict.step is Step.RESIGN:
                    origin.renew(address)
                if verdict.step is Step.RESTART and not reception.kept_bytes:
                    log.warning("transfer.restarted", reason=failure.reason.value, detail=failure.detail)
                retried(failure, verdict)
                await self.means.sleep(verdict.delay_s)


def _log_retry(failure: Failure, verdict: Verdict) -> None:
    log.info(
        "transfer.retry_scheduled",
        reason=failure.reason.value,
        detail=failure.detail,
        delay_s=round(verdict.delay_s, 3),
    )


def ended_by(output: Output, failure: Failure) -> Result:
    """
    Return how *failure*, which persists, ends *output*.

    An output that the API itself reports as not found is not available, which is not a failure.
    """
    outcome, reason = Outcome.FAILED, failure.reason
    if reason is Reason.NOT_FOUND and isinstance(failure, ApiFailure):
        outcome, reason = Outcome.SKIPPED, Reason.NOT_AVAILABLE
    return Result(output, outcome, reason, attempts=1, detail=failure.detail)
