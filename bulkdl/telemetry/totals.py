"""
Totals of a run by kind, the download rate and the estimated time to the end. The terminal and the status
page show them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bulkdl.models import Outcome, Result
from bulkdl.telemetry.events import (
    ContainerEnumerated,
    EnumerationFinished,
    Event,
    OutputProcessed,
    OutputSkipped,
    TransferAdvanced,
    TransferEnded,
    TransferStarted,
    UploadAdvanced,
)

REFRESH_S = 0.2
# A transfer that is smaller and younger than this is counted, but has no line of its own.
SHOWN_FROM_BYTES = 16 << 20
SHOWN_FROM_S = 2.0
_RATE_WINDOW_S = 10.0


class Speedometer:
    """Measure the bytes per second of the last seconds. The caller passes the time."""

    def __init__(self, window_s: float = _RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, now_s: float, received_bytes: int) -> None:
        """Count *received_bytes*; calls within one refresh share a sample."""
        if self._samples and now_s - self._samples[-1][0] < REFRESH_S:
            at_s, before = self._samples.pop()
            self._samples.append((at_s, before + received_bytes))
        else:
            self._samples.append((now_s, received_bytes))
            self._drop_old(now_s)
        self._sum += received_bytes

    def rate(self, now_s: float) -> float:
        """Return the bytes per second."""
        self._drop_old(now_s)
        if not self._samples:
            return 0.0
        return self._sum / max(now_s - self._samples[0][0], 1.0)

    def _drop_old(self, now_s: float) -> None:
        while self._samples and now_s - self._samples[0][0] > self._window_s:
            self._sum -= self._samples.popleft()[1]


@dataclass(slots=True)
class KindTotals:
    """
    Outputs of one kind.

    Attributes:
        planned: Outputs to download, as far as they are listed.
        up_to_date: Outputs that were present before the run.
        downloaded_bytes: Received in this run.
        finished_bytes: Received for the outputs in *outcomes*.
    """

    planned: int = 0
    up_to_date: int = 0
    downloaded_bytes: int = 0
    finished_bytes: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    speed: Speedometer = field(default_factory=Speedometer)

    @property
    def finished(self) -> int:
        """Outputs with an outcome in this run."""
        return self.outcomes.total()

    @property
    def left(self) -> int:
        """Outputs that are listed and have no outcome."""
        return max(self.planned - self.finished, 0)

    def add_result(self, result: Result) -> None:
        """Count the outcome of one output."""
        self.outcomes[result.outcome] += 1
        self.finished_bytes += result.downloaded_bytes

    def remaining_bytes(self) -> float:
        """Estimate the missing bytes from the mean size of the finished outputs."""
        if not self.left or not self.finished:
            return 0.0
        expected = self.left * self.finished_bytes / self.finished
        return max(expected - (self.downloaded_bytes - self.finished_bytes), 0.0)


@dataclass(slots=True)
class ProcessorTotals:
    """Results of one processor."""

    states: Counter[Outcome] = field(default_factory=Counter)
    files: int = 0
    size_bytes: int = 0

    def add(self, event: OutputProcessed) -> None:
        """Count one result."""
        self.states[event.state] += event.output is not None
        self.files += event.files
        self.size_bytes += event.size_bytes


class RunTotals:
    """Totals of each of *kinds*; ``report`` counts the events of a run."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = {kind: KindTotals() for kind in kinds}
        self.processors: dict[str, ProcessorTotals] = {}
        self.speed = Speedometer()
        self.uploaded_bytes = 0
        self.is_listed = False
        self._started_s: float | None = None

    def report(self, event: Event, now_s: float) -> None:
        """Count *event*, which happened at *now_s*."""
        match event:
            case ContainerEnumerated(planned_by_kind=planned):
                self._add_planned(planned)
            case OutputSkipped(output=output):
                self.kinds[output.kind].up_to_date += 1
            case EnumerationFinished():
                self.is_listed = True
            case TransferStarted() if self._started_s is None:
                self._started_s = now_s
            case TransferAdvanced() | UploadAdvanced():
                self._add_bytes(event, now_s)
            case OutputProcessed(processor=processor):
                self.processors.setdefault(processor, ProcessorTotals()).add(event)
            case TransferEnded(result=result):
                self.kinds[result.output.kind].add_result(result)

    def _add_bytes(self, event: TransferAdvanced | UploadAdvanced, now_s: float) -> None:
        if isinstance(event, UploadAdvanced):
            self.uploaded_bytes += event.sent_bytes
            return
        totals = self.kinds[event.output.kind]
        totals.downloaded_bytes += event.downloaded_bytes
        totals.speed.add(now_s, event.downloaded_bytes)
        self.speed.add(now_s, event.downloaded_bytes)

    def _add_planned(self, planned_by_kind: Mapping[str, int]) -> None:
        for kind, count in planned_by_kind.items():
            self.kinds[kind].planned += count

    @property
    def downloaded_bytes(self) -> int:
        """Bytes received in this run."""
        return sum(totals.downloaded_bytes for totals in self.kinds.values())

    def eta_s(self, now_s: float) -> float | None:
        """
        Estimate the seconds until all listed outputs have an outcome.

        The estimate is the larger one of two: the missing bytes at the current rate, and for each kind the
        missing outputs at their mean rate since the first download. It is None during the listing,
        before an output of each kind has completed, and without progress.
        """
        left = [totals for totals in self.kinds.values() if totals.left]
        if not self.is_listed or self._started_s is None or not left:
            return None
        rate = self.speed.rate(now_s)
        remaining_bytes = sum(totals.remaining_bytes() for totals in left)
        if any(not totals.outcomes[Outcome.COMPLETED] for totals in left) or (remaining_bytes and not rate):
            return None
        elapsed_s = now_s - self._started_s
        by_count_s = max(totals.left * elapsed_s / totals.finished for totals in left)
        return max(by_count_s, remaining_bytes / rate if rate else 0.0)


def is_shown(age_s: float, received_bytes: int, total_bytes: int | None) -> bool:
    """Return whether a transfer has a line of its own: it is large, or it has lasted for a while."""
    return age_s > SHOWN_FROM_S or max(received_bytes, total_bytes or 0) > SHOWN_FROM_BYTES
