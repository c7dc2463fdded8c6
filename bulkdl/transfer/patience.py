"""
The tally of one line of attempts, and what the table says after each that failed.
"""

from __future__ import annotations

from collections.abc import Callable

from bulkdl.errors import Failure
from bulkdl.http.retry import RetryPolicy, Tally, Verdict, judge


class Patience:
    """
    Attributes:
        tally: How the attempts have gone so far.
    """

    def __init__(self, policy: RetryPolicy, rand: Callable[[], float]) -> None:
        self.tally = Tally()
        self._policy = policy
        self._rand = rand

    def judge(self, failure: Failure, *, progressed: bool) -> Verdict:
        """Count one more failed attempt, and say what follows."""
        self.tally = self.tally.after(failure, progressed=progressed)
        return judge(failure, self.tally, self._policy, self._rand)
