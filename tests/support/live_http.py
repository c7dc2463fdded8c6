"""Start a run against the simulator and observe it through its events and its HTTP endpoint."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from bulkdl.cli.context import RunRequest, run_downloader
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings, Settings
from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from bulkdl.telemetry.events import Event, StatusPageListening

ACCOUNT = SimulatedAccount(projects=1, jobs=8, archive_bytes=3_000_000)
FOREVER_S = 3600.0
# The first request of each archive stalls in the middle of the body.
STALL_FIRST_REQUEST = {
    "fault": "stall",
    "at_byte": 1_500_000,
    "seconds": FOREVER_S,
    "endpoint": "object",
    "nth": 1,
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class EventRecorder:
    """A reporter that records events and lets tests wait for them."""

    def __init__(self) -> None:
        self._happened: list[Event] = []
        self._waiting: list[tuple[Callable[[Event], object], asyncio.Future[Event]]] = []

    def report(self, event: Event) -> None:
        self._happened.append(event)
        for fits, found in self._waiting:
            if not found.done() and fits(event):
                found.set_result(event)

    def expect(self, fits: Callable[[Event], object]) -> asyncio.Future[Event]:
        found: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting.append((fits, found))
        for event in self._happened:
            if not found.done() and fits(event):
                found.set_result(event)
        return found


class SignallingFaults(Faults):
    """Faults that set an event when the first fault is applied."""

    applied: asyncio.Event

    @classmethod
    def create(cls, *rules: dict[str, Any]) -> "SignallingFaults":
        faults = cls.from_rules(*rules)
        faults.applied = asyncio.Event()
        return faults

    def select_rules(self, call: Any) -> list[Any]:
        rules = super().select_rules(call)
        if rules:
            self.applied.set()
        return rules


class LiveRun:
    """A run in progress and a client of its HTTP endpoint."""

    http: aiohttp.ClientSession

    def __init__(self, watch: EventRecorder, work: asyncio.Task[Any]) -> None:
        self.watch, self.work = watch, work

    async def wait_for_event(self, fits: Callable[[Event], object]) -> Event:
        """Return the first event that *fits*. Fail if the run ends before."""
        found = self.watch.expect(fits)
        await asyncio.wait({found, self.work}, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            pytest.fail(f"the run has ended: {await self.work}")
        return found.result()

    async def json(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path) as response:
            return response.status, await response.json()

    async def metrics(self) -> Samples:
        async with self.http.get("/metrics") as response:
            return samples(await response.text())

    async def summary(self) -> Summary:
        summary, _ = await self.work
        assert isinstance(summary, Summary)
        return summary


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((f"bulkdl_{name}", frozenset(labels.items())), 0.0)


def create_run_request(simulator: Simulator, tmp_path: Path, **more: Any) -> RunRequest:
    settings = Settings(
        api_url=simulator.api_url,
        output=tmp_path / "out",
        retry_base_delay=0.01,
        retry_max_delay=0.01,
        **more,
    )
    keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
    book = CredentialSet(by_project=keys, project_ids=tuple(keys))
    return RunRequest(LoadedSettings(settings, {}), (Selection.of(settings),), book, expose_metrics=True)


@asynccontextmanager
async def run_with_status_page(simulator: Simulator, tmp_path: Path, **more: Any) -> AsyncIterator[LiveRun]:
    order, watch = create_run_request(simulator, tmp_path, listen="127.0.0.1:0", **more), EventRecorder()
    work = asyncio.create_task(
        run_downloader(order, lambda downloader: downloader.run(order.selections), watch)
    )
    try:
        run = LiveRun(watch, work)
        listening = await run.wait_for_event(lambda event: isinstance(event, StatusPageListening))
        assert isinstance(listening, StatusPageListening)
        async with aiohttp.ClientSession(listening.url) as run.http:
            yield run
    finally:
        work.cancel()
        await asyncio.wait([work])
