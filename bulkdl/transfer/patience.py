"""
The tally of one line of attempts, and what the table says after each that failed.
"""

from __future__ import annotations

from collections.abc import Callable

from bulkdl.errors import DownloadError
from bulkdl.http.retry import RetryDecision, RetryPolicy, RetryState, decide_retry


class RetryTracker:
    """
    Attributes:
        tally: How the attempts have gone so far.
    """

    def __init__(self, policy: RetryPolicy, rand: Callable[[], float]) -> None:
        self.state = RetryState()
        self._policy = policy
        self._rand = rand

    def record(self, failure: DownloadError, *, progressed: bool) -> RetryDecision:
        """Count one more failed attempt, and say what follows."""
        self.state = self.state.record(failure, progressed=progressed)
        return decide_retry(failure, self.state, self._policy, self._rand)
