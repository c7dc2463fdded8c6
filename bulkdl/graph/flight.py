"""
What is in flight, and which of it may still end when the run is to stop. Pure but for the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulkdl.models import Kind, Output

# A transfer this young has not shown its speed yet.
_TOO_YOUNG_S = 1.0


@dataclass(slots=True)
class ActiveTransfer:
    """
    One transfer under way.

    Attributes:
        started_s: Moment on the monotonic clock.
        downloaded_bytes: Came over the network so far.
        at_bytes: Are here, with those of earlier runs.
        total_bytes: Of the whole; None when not told.
        waiting: Between two attempts.
    """

    output: Output
    started_s: float
    downloaded_bytes: int = 0
    offset: int = 0
    total_bytes: int | None = None
    waiting: bool = False


def can_finish_within(flight: ActiveTransfer, now_s: float, grace_s: float) -> bool:
    """
    Whether *flight* will probably be over within *grace_s*, at the speed it has had.

    Small outputs always may: they end in the time it takes to say so. One that waits for its next
    attempt may not, nor an archive of which no byte has come yet: nothing would be lost with them.
    """
    if flight.waiting:
        return False
    if flight.output.kind is not Kind.ARCHIVE:
        return True
    elapsed_s = now_s - flight.started_s
    if flight.downloaded_bytes == 0:
        return elapsed_s < _TOO_YOUNG_S
    if flight.total_bytes is None:
        return True
    left_bytes = flight.total_bytes - flight.offset
    return left_bytes * max(elapsed_s, 0.001) / flight.downloaded_bytes <= grace_s
