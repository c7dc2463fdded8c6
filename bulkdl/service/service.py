"""
The service: one run after another with one open downloader, on a schedule and after events.

Sessions and tokens stay open between runs. The lease of the output directory is held only during a run. A run
that fails does not end the service. A new configuration replaces the downloader between two runs.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bulkdl.errors import BulkdlError, DownloaderStateError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.log import get_logger
from bulkdl.redaction import redact
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.service.history import RunHistory, RunRecord, Trigger
from bulkdl.service.schedule import Schedule
from bulkdl.service.systemd import SystemdNotifier
from bulkdl.telemetry.events import Reporter, RunFinished

log = get_logger(__name__)

# The wall clock can change during a wait, so the service reads the schedule again.
_MAX_WAIT_S = 60.0
# UP42 can report an order before its results are complete. After such an event, the service looks again.
RECHECK_DELAYS_S = (60.0, 120.0, 300.0, 600.0, 1800.0)


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """
    What the service does with one configuration.

    Attributes:
        downloader: Not open yet.
        read_selections: Returns the selections of the next run. An age such as ``7d`` ends at the call.
        after_run: Awaited after each run that has a report.
    """

    downloader: Downloader
    schedule: Schedule
    read_selections: Callable[[], Sequence[Selection]]
    after_run: Callable[[Downloader, Summary], Awaitable[None]]


class Service:
    """
    Executes runs until it is stopped.

    Attributes:
        history: The last runs.
        last_start_s: Start of the last run by the monotonic clock.

    Args:
        reporter: Receives the end of a run that has no report; the downloader reports everything else.
        exit_code_of: Returns the exit code of an error.
    """

    def __init__(
        self,
        plan: ServicePlan,
        systemd: SystemdNotifier,
        reporter: Reporter,
        exit_code_of: Callable[[BulkdlError], ExitCode],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = RunHistory()
        self.last_start_s = -math.inf
        self._clock = clock
        self._plan = plan
        self._next_plan: ServicePlan | None = None
        self._systemd = systemd
        self._reporter = reporter
        self._exit_code_of = exit_code_of
        self._now = now
        self._wake = asyncio.Event()
        self._has_event = False
        self._rechecks: Iterator[float] = iter(())
        self._recheck_s = math.inf
        self._stop_cause: ExitCode | None = None
        self._is_running = False
        self._is_interrupted = False
        self._after_run: asyncio.Task[None] | None = None

    # requests

    def trigger(self) -> None:
        """Start a run after the current one. Several calls before its start cause one run."""
        self._has_event = True
        self._wake.set()

    def replace_plan(self, plan: ServicePlan) -> None:
        """Use *plan* from the next run on."""
        self._next_plan = plan
        self._wake.set()

    def stop(self, cause: ExitCode) -> None:
        """End the service: the first call drains the active run, the second call aborts it."""
        is_first = self._stop_cause is None
        self._stop_cause = self._stop_cause or cause
        if is_first:
            self._systemd.stopping()
            log.info("serve.stopping", is_running=self._is_running)
        if self._is_running:
            self._is_interrupted = True
            with suppress(DownloaderStateError):
                self._plan.downloader.stop(cause)
        elif not is_first and self._after_run is not None:
            self._is_interrupted = True
            self._after_run.cancel()
        self._wake.set()

    # state

    @property
    def is_stopping(self) -> bool:
        """Whether the service ends."""
        return self._stop_cause is not None

    def document(self) -> dict[str, Any]:
        """Return the state of the service for JSON."""
        return {
            "state": self._state,
            "schedule": self._plan.schedule.describe(),
            "next_run_at": self._next_run_at(),
            "is_event_waiting": self._has_event,
            "runs_total": self.history.total,
            "runs": self.history.as_list(),
        }

    @property
    def _state(self) -> str:
        if self.is_stopping:
            return "stopping"
        return "running" if self._is_running else "waiting"

    def _next_run_at(self) -> str | None:
        if self.is_stopping:
            return None
        recheck_s = max(self._recheck_s - self._clock(), 0.0)
        delay_s = 0.0 if self._has_event else min(self._plan.schedule.remaining_s(), recheck_s)
        return (self._now() + timedelta(seconds=delay_s)).isoformat(timespec="seconds")

    # runs

    async def execute(self) -> ExitCode:
        """
        Execute runs until ``stop``.

        Returns:
            The exit code of the signal if it stopped a run or a step after it, otherwise 0.
        """
        heartbeat = asyncio.create_task(self._send_heartbeats(), name="watchdog")
        try:
            self._systemd.ready("starting")
            while not self.is_stopping:
                self._use_next_plan()
                async with self._plan.downloader:
                    await self._run_until_reopened()
            return self._stop_cause if self._is_interrupted and self._stop_cause else ExitCode.OK
        finally:
            heartbeat.cancel()

    def _use_next_plan(self) -> None:
        if self._next_plan is not None:
            self._plan, self._next_plan = self._next_plan, None
            log.info("serve.reloaded", schedule=self._plan.schedule.describe())

    async def _run_until_reopened(self) -> None:
        """Execute runs until the service stops or the downloader has to be opened again."""
        is_usable = True
        while is_usable and not self.is_stopping and self._next_plan is None:
            trigger = await self._wait()
            if trigger is not None:
                is_usable = await self._run(trigger)

    async def _wait(self) -> Trigger | None:
        """Wait for the next run; return None if the plan must be replaced or the service stops."""
        if not self._has_event and self._plan.schedule.remaining_s() > 0:
            log.info("serve.waiting", next_run_at=self._next_run_at())
            self._systemd.status(f"waiting for the next run at {self._next_run_at()}")
        while True:
            self._wake.clear()
            if self.is_stopping or self._next_plan is not None:
                return None
            if self._has_event:
                return Trigger.WEBHOOK
            remaining_s = self._plan.schedule.remaining_s()
            if remaining_s <= 0:
                return Trigger.SCHEDULE
            recheck_s = self._recheck_s - self._clock()
            if recheck_s <= 0:
                return Trigger.RECHECK
            with suppress(TimeoutError):
                async with asyncio.timeout(min(remaining_s, recheck_s, _MAX_WAIT_S)):
                    await self._wake.wait()

    async def _run(self, trigger: Trigger) -> bool:
        """
        Execute one run; return whether the downloader can be used again.

        After a run that is not complete, it is opened again, because it remembers rejected credentials.
        """
        self._has_event = False
        self._recheck_s = math.inf
        self.last_start_s = self._clock()
        self._plan.schedule.record_start(is_scheduled=trigger is Trigger.SCHEDULE)
        self._systemd.status(f"running, started by {trigger}")
        started_at = self._now()
        self._is_running = True
        try:
            summary = await self._plan.downloader.run(self._plan.read_selections())
        except Exception as error:  # noqa: BLE001 - a failed run does not end the service
            self._record_failure(trigger, started_at, error)
            return False
        finally:
            self._is_running = False
        self.history.add(RunRecord.of_summary(trigger, summary))
        self._plan_recheck(trigger, summary)
        await self._process_result(summary)
        return summary.exit_code is ExitCode.OK

    def _plan_recheck(self, trigger: Trigger, summary: Summary) -> None:
        """Look again soon if the run after an event found deliveries that are not final."""
        if trigger is Trigger.WEBHOOK:
            self._rechecks = iter(RECHECK_DELAYS_S)
        if trigger is not Trigger.SCHEDULE and summary.containers.unfinished:
            self._recheck_s = self._clock() + next(self._rechecks, math.inf)

    def _record_failure(self, trigger: Trigger, started_at: datetime, error: Exception) -> None:
        text = redact(str(error) or type(error).__name__)
        if isinstance(error, BulkdlError):
            code = self._exit_code_of(error)
            log.error("serve.run_failed", exit_code=int(code), detail=text)
        else:
            code = ExitCode.BUG
            log.exception("serve.run_crashed")
        finished_at = self._now()
        self.history.add(RunRecord.of_failure(trigger, started_at, finished_at, int(code), text))
        self._reporter.report(RunFinished(finished_at, int(code)))

    async def _process_result(self, summary: Summary) -> None:
        """Run the steps after a run. Their failure does not end the service; a second signal stops them."""
        self._after_run = asyncio.ensure_future(self._plan.after_run(self._plan.downloader, summary))
        try:
            await asyncio.wait([self._after_run])
        except asyncio.CancelledError:
            self._after_run.cancel()
            await asyncio.wait([self._after_run])
            raise
        finally:
            task, self._after_run = self._after_run, None
        try:
            task.result()
        except asyncio.CancelledError:
            log.warning("serve.step_stopped")
        except BulkdlError as error:
            log.error("serve.step_failed", detail=redact(str(error)))  # noqa: TRY400 - one line
        except Exception:
            log.exception("serve.step_crashed")

    async def _send_heartbeats(self) -> None:
        """Report to the watchdog of systemd that the event loop responds."""
        while self._systemd.watchdog_s is not None:
            self._systemd.heartbeat()
            await asyncio.sleep(self._systemd.watchdog_s)
