"""
One transfer from beginning to outcome: attempts, and what the table of reactions says between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bulkdl.errors import Failure
from bulkdl.http.retry import Tally, Verdict
from bulkdl.log import get_logger
from bulkdl.model import Outcome, Output, Reason, Receipt, Result
from bulkdl.reactions import REACTIONS, Step
from bulkdl.transfer.means import Means
from bulkdl.transfer.ports import Name, Origin, Part, Progress, Retried
from bulkdl.transfer.reception import Reception

_UNTRIED = Tally()

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

        def retried(failure: Failure, verdict: Verdict) -> None:
            _log_retry(failure, verdict)
            retry_scheduled(failure.reason, verdict.delay_s)

        reception = Reception(output, part, self.means, progress, retried)
        tally = Tally()
        try:
            await origin.prepare()
            receipt = await reception.restore(origin) if origin.resumable else None
            if receipt is None:
                tally, receipt = await self._persist(reception, origin, name, retried)
            ended = Result(output, Outcome.COMPLETED, Reason.FETCHED, receipt, attempts=tally.attempts + 1)
        except _GivenUp as given_up:
            ended = ended_by(output, given_up.failure, given_up.tally)
        except Failure as failure:
            ended = ended_by(output, failure, tally)
        finally:
            part.close()
        return replace(
            ended,
            moved_bytes=reception.moved_bytes,
            resumed_from_bytes=reception.resumed_from_bytes,
            duration_s=time.monotonic() - started_s,
        )

    async def _persist(
        self, reception: Reception, origin: Origin, name: Name, retried: Retried
    ) -> tuple[Tally, Receipt]:
        patience = self.means.patience()
        most_bytes = reception.kept_bytes
        while True:
            try:
                address = await origin.prepare()
            except Failure as failure:  # final: the API client has tried again itself
                raise _GivenUp(failure, patience.tally) from None
            try:
                return patience.tally, await reception.attempt(origin, name)
            except Failure as failure:
                verdict = patience.judge(failure, progressed=reception.kept_bytes > most_bytes)
                most_bytes = max(most_bytes, reception.kept_bytes)
                if REACTIONS[failure.reason].step is Step.RESTART:
                    await reception.restart_after(failure)  # nor may a later run go on with these bytes
                    most_bytes = reception.kept_bytes
                if verdict.step in (Step.GIVE_UP, Step.STOP_RUN):
                    raise _GivenUp(failure, patience.tally) from None
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


class _GivenUp(Exception):
    def __init__(self, failure: Failure, tally: Tally) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.tally = tally


def ended_by(output: Output, failure: Failure, tally: Tally = _UNTRIED) -> Result:
    """What a failure that stays makes of *output*: 404 means that UP42 has none, which is no failure."""
    if failure.reason is Reason.NOT_FOUND:
        return Result(
            output,
            Outcome.SKIPPED,
            Reason.UP42_HAS_NONE,
            attempts=max(tally.attempts, 1),
            detail=failure.detail,
        )
    return Result(
        output, Outcome.FAILED, failure.reason, attempts=max(tally.attempts, 1), detail=failure.detail
    )
