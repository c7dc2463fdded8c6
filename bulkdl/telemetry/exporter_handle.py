"""
A run as it is seen from outside. What listens and what is written is in ``exposure``, which is loaded only
where somebody asks for it: it brings a web server and a metrics library along.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from bulkdl.telemetry.events import Event, NullReporter, Reporter, RunFinished, RunStarted


class ExporterHandle:
    """
    A reporter for everything outside; ``ended`` has the last word on how a run ended.

    Attributes:
        url: Of the page; None if there is none.
    """

    def __init__(
        self, reporter: Reporter, *, url: str | None = None, begin: Callable[[], None] | None = None
    ) -> None:
        """
        Feed *reporter*.

        Args:
            begin: Called when the run begins, which by then holds its directory.
        """
        self.url = url
        self._reporter = reporter
        self._begin = begin

    def report(self, event: Event) -> None:
        """Pass *event* on."""
        self._reporter.report(event)
        if isinstance(event, RunStarted) and self._begin is not None:
            self._begin()

    def finish(self, exit_code: int) -> None:
        """The process will end with *exit_code*, whatever the run itself came to."""
        self.report(RunFinished(datetime.now(UTC), exit_code))


@asynccontextmanager
async def no_exporters() -> AsyncIterator[ExporterHandle]:
    """Nothing listens, nothing is written."""
    yield ExporterHandle(NullReporter())
