"""Call an object store: retries, and one cooldown for all calls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bulkdl.destinations.objectstore.failures import STORE_ERRORS, convert_error
from bulkdl.errors import DestinationError
from bulkdl.failure_policy import RetryAction
from bulkdl.http.rate_limit import Cooldown
from bulkdl.http.retry import RetryPolicy, RetryState
from bulkdl.log import get_logger
from bulkdl.models import Reason

T = TypeVar("T")
log = get_logger(__name__)


class StoreCalls:
    """
    Repeats failed calls of one store.

    The client of the store repeats single requests. These retries begin after it gave up, and they repeat a
    complete upload. A store that reports throttling pauses all calls.

    Args:
        location: The URL of the destination, for messages.
    """

    def __init__(self, location: str, policy: RetryPolicy) -> None:
        self._location = location
        self._policy = policy
        self._cooldown = Cooldown()
        self.count = 0

    async def repeat(self, action: str, call: Callable[[], Awaitable[T]]) -> T:
        """
        Await *call* until it succeeds.

        A missing object is not retried: FileNotFoundError is converted by the caller.

        Args:
            action: The operation and its object, for messages.

        Raises:
            DestinationError: The store rejected the call, or the retries are exhausted.
        """
        state = RetryState(self._policy, random.random)
        while True:
            await self._cooldown.wait(self._location)
            self.count += 1
            try:
                return await call()
            except STORE_ERRORS as error:
                failure = convert_error(error, action)
            except DestinationError as error:
                failure = error
            decision = state.record(failure, progressed=False)
            if decision.action in (RetryAction.GIVE_UP, RetryAction.STOP_RUN, RetryAction.RESTART):
                failure.retries_exhausted = True
                raise failure
            log.info(
                "store.retry_scheduled",
                reason=failure.reason.value,
                detail=failure.detail,
                delay_s=round(decision.delay_s, 3),
            )
            if failure.reason is Reason.THROTTLED:
                self._cooldown.start(self._location, max(decision.delay_s, self._policy.base_s))
            else:
                await asyncio.sleep(decision.delay_s)
