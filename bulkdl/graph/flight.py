"""
What is in flight, and which of it may still end when the run is to stop. Pure but for the registry.
"""

from __future__ import annotations

from dataclasses import dataclass

from bulkdl.model import Kind, Output

# A transfer this young has not shown its speed yet.
_TOO_YOUNG_S = 1.0


@dataclass(slots=True)
class Flight:
    """
    One transfer under way.

    Attributes:
        started_s: Moment on the monotonic clock.
        moved_bytes: Came over the network so far.
        at_bytes: Are here, with those of earlier runs.
        total_bytes: Of the whole; None when not told.
        waiting: Between two attempts.
    """

    output: Output
    started_s: float
    moved_bytes: int = 0
    at_bytes: int = 0
    total_bytes: int | None = None
    waiting: bool = False


def may_end(flight: Flight, now_s: float, grace_s: float) -> bool:
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
    if flight.moved_bytes == 0:
        return elapsed_s < _TOO_YOUNG_S
    if flight.total_bytes is None:
        return True
    left_bytes = flight.total_bytes - flight.at_bytes
    return left_bytes * max(elapsed_s, 0.001) / flight.moved_bytes <= grace_s
