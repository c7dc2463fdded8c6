"""A real run, held in the middle, looked at from outside."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from bulkdl.cli.session import Order, worked
from bulkdl.errors import ConfigError
from bulkdl.model import Kind
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialBook, Loaded, Settings
from bulkdl.simulator import Account, Faults, Simulator
from bulkdl.telemetry.events import Event, HttpListening, RequestEnded, TransferAdvanced, TransferEnded

ACCOUNT = Account(projects=1, jobs=8, archive_bytes=3_000_000)
FOREVER_S = 3600.0
# Each archive stands still in its middle, the first time it is asked for.
HELD = {"fault": "stall", "at_byte": 1_500_000, "seconds": FOREVER_S, "endpoint": "object", "nth": 1}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Watch:
    """A reporter that others can wait on."""

    def __init__(self) -> None:
        self._happened: list[Event] = []
        self._waiting: list[tuple[Callable[[Event], object], asyncio.Future[Event]]] = []

    def report(self, event: Event) -> None:
        self._happened.append(event)
        for fits, found in self._waiting:
            if not found.done() and fits(event):
                found.set_result(event)

    def awaited(self, fits: Callable[[Event], object]) -> asyncio.Future[Event]:
        found: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting.append((fits, found))
        for event in self._happened:
            if not found.done() and fits(event):
                found.set_result(event)
        return found


class Announced(Faults):
    """Faults that tell when the first of them is met."""

    met: asyncio.Event

    @classmethod
    def when_met(cls, *rules: dict[str, Any]) -> "Announced":
        faults = cls.of(*rules)
        faults.met = asyncio.Event()
        return faults

    def meeting(self, call: Any) -> list[Any]:
        rules = super().meeting(call)
        if rules:
            self.met.set()
        return rules


class Live:
    """A run that is going on, and a client of its endpoint."""

    http: aiohttp.ClientSession

    def __init__(self, watch: Watch, work: asyncio.Task[Any]) -> None:
        self.watch, self.work = watch, work

    async def until(self, fits: Callable[[Event], object]) -> Event:
        """The first event that *fits*; if the run ends without, so does this."""
        found = self.watch.awaited(fits)
        await asyncio.wait({found, self.work}, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            pytest.fail(f"the run has ended: {await self.work}")
        return found.result()

    async def json(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path) as answer:
            return answer.status, await answer.json()

    async def metrics(self) -> Samples:
        async with self.http.get("/metrics") as answer:
            return samples(await answer.text())

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


def order_for(simulator: Simulator, tmp_path: Path, **more: Any) -> Order:
    settings = Settings(
        api_url=simulator.api_url, output=tmp_path / "out", retry_base_s=0.01, retry_cap_s=0.01, **more
    )
    keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
    book = CredentialBook(by_project=keys, project_ids=tuple(keys))
    return Order(Loaded(settings, {}), Selection.of(settings), book, watched=True)


@asynccontextmanager
async def live(simulator: Simulator, tmp_path: Path, **more: Any) -> AsyncIterator[Live]:
    order, watch = order_for(simulator, tmp_path, http="127.0.0.1:0", **more), Watch()
    work = asyncio.create_task(worked(order, lambda downloader: downloader.run(order.selection), watch))
    try:
        run = Live(watch, work)
        listening = await run.until(lambda event: isinstance(event, HttpListening))
        assert isinstance(listening, HttpListening)
        async with aiohttp.ClientSession(listening.url) as run.http:
            yield run
    finally:
        work.cancel()
        await asyncio.wait([work])


def is_half_way(event: Event) -> bool:
    return isinstance(event, TransferAdvanced) and event.at_bytes >= 1_500_000


async def test_mid_run_the_run_is_alive_and_ready_and_tells_where_it_is(tmp_path):
    async with (
        Simulator(ACCOUNT, faults=Faults.of(HELD)) as simulator,
        live(simulator, tmp_path, archives=1) as run,
    ):
        await run.until(is_half_way)
        await run.until(lambda event: isinstance(event, TransferEnded))
        assert await run.json("/healthz") == (200, {"alive": True})
        assert await run.json("/readyz") == (200, {"ready": True, "reasons": []})
        found = await run.metrics()
        assert value(found, "in_flight", kind="archive") == 1
        assert value(found, "bytes_total", kind="archive") >= 1_500_000
        assert value(found, "requests_total", endpoint="token", status="2xx") == 1
        assert value(found, "request_duration_seconds_count", endpoint="storage") == 1
        assert value(found, "disk_free_bytes") > 0
        _, status = await run.json("/status.json")
        flight = status["in_flight"][0]
        assert flight["kind"] == "archive"
        assert 1_500_000 <= flight["at_bytes"] < flight["total_bytes"]
        assert status["run_id"]
        await simulator.vanish("storage", 0.01)  # the stalled connection breaks: it goes on
        simulator.faults = None
        summary = await run.summary()
    assert summary.exit_code == 0


async def test_when_it_is_over_the_metrics_are_what_the_summary_says(tmp_path):
    path = tmp_path / "bulkdl.prom"
    # A data.json that UP42 cannot give, one that comes at the second attempt, and a throttling.
    faults = Faults.of(
        {"fault": "status", "status": 400, "endpoint": "geojson", "level": "job", "limit": 1},
        {"fault": "cut", "endpoint": "geojson", "level": "task", "nth": 1, "limit": 1},
        {"fault": "throttled", "retry_after": 0, "endpoint": "tasks", "nth": 1, "limit": 2},
    )
    async with Simulator(ACCOUNT, faults=faults) as simulator:
        order = order_for(simulator, tmp_path, metrics_file=path)
        summary, _ = await worked(order, lambda downloader: downloader.run(order.selection), Watch())
        # A plan holds no directory, so it leaves the file to those that do.
        again, _ = await worked(order, lambda downloader: downloader.plan(order.selection), Watch())
    found = samples(path.read_text())
    told = {
        (labels["kind"], labels["outcome"], labels["reason"]): count
        for (name, pairs), count in found.items()
        if name == "bulkdl_outputs_total" and (labels := dict(pairs))
    }
    assert told == {tuple(map(str, key)): count.outputs for key, count in summary.counts.items()}
    assert sum(value(found, "bytes_total", kind=kind) for kind in Kind) == summary.moved_bytes
    assert value(found, "retries_total", reason="truncated") == 1
    assert value(found, "throttles_total") == 2
    assert value(found, "jobs_total", state="unfinished") == summary.jobs.unfinished
    for kind in Kind:
        assert value(found, "in_flight", kind=kind) == 0
        assert value(found, "outputs_open", kind=kind) == 0
        assert value(found, "queue_depth", lane=kind) == 0
    assert value(found, "last_run_exit_code") == summary.exit_code == 3
    assert again.summary.jobs.seen == summary.jobs.seen
    assert samples(path.read_text()) == found


async def test_what_was_there_before_counts_as_skipped(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        for _ in range(2):
            order = order_for(simulator, tmp_path, metrics_file=tmp_path / "bulkdl.prom")
            await worked(order, lambda downloader: downloader.run(order.selection), Watch())  # noqa: B023
        wanted = sum(1 for expected in simulator.expected() if expected.kind is Kind.ARCHIVE)
    found = samples((tmp_path / "bulkdl.prom").read_text())
    there = value(found, "outputs_total", kind="archive", outcome="skipped", reason="already_there")
    assert there == wanted
    assert value(found, "outputs_planned_total", kind="archive") == 0
    assert value(found, "bytes_total", kind="archive") == 0


async def test_not_ready_as_long_as_nobody_has_let_us_in(tmp_path):
    faults = Announced.when_met({"fault": "latency", "seconds": FOREVER_S, "endpoint": "token", "nth": 1})
    async with Simulator(ACCOUNT, faults=faults) as simulator, live(simulator, tmp_path) as run:
        await faults.met.wait()
        assert (await run.json("/healthz"))[0] == 200
        assert await run.json("/readyz") == (503, {"ready": False, "reasons": ["not logged in yet"]})
        await simulator.vanish("api", 0.01)
        await run.until(lambda event: isinstance(event, RequestEnded) and event.status == 200)
        assert (await run.summary()).exit_code == 0


async def test_the_output_directory_goes_away_and_readiness_with_it(tmp_path):
    async with (
        Simulator(ACCOUNT, faults=Faults.of(HELD)) as simulator,
        live(simulator, tmp_path, archives=1) as run,
    ):
        await run.until(is_half_way)
        (tmp_path / "out" / ".bulkdl").rename(tmp_path / "elsewhere")
        status, document = await run.json("/readyz")
        assert status == 503
        assert document["reasons"] == ["the output directory is not there yet"]
        (tmp_path / "elsewhere").rename(tmp_path / "out" / ".bulkdl")


async def test_when_the_run_ends_its_port_is_closed(tmp_path):
    async with Simulator(ACCOUNT) as simulator, live(simulator, tmp_path) as run:
        await run.summary()
        with pytest.raises(aiohttp.ClientConnectionError):
            await run.json("/healthz")


async def test_a_port_that_is_taken_ends_it_before_anything_is_done(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        port = int(simulator.api_url.rpartition(":")[2])
        order = order_for(simulator, tmp_path, http=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match="name a free address"):
            await worked(order, lambda downloader: downloader.run(order.selection), Watch())
        assert not simulator.seen
    assert not (tmp_path / "out").exists()
