"""
Run the service in the event loop of the test: real downloads from the simulator, and a clock without waiting.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bulkdl import Selection, Settings
from bulkdl.cli.exit_codes import exit_code_of
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.ledger.locked import open_locked_ledger
from bulkdl.service.schedule import IntervalSchedule
from bulkdl.service.service import RECHECK_DELAYS_S, Service, ServicePlan
from bulkdl.service.systemd import SystemdNotifier
from bulkdl.settings import AccountCredentials, CredentialSet
from bulkdl.simulator import Faults, SimulatedAccount, Simulator, StorageOptions
from bulkdl.state.storage import create_storage
from bulkdl.telemetry.events import Event, RunFinished, TransferStarted
from support.virtual_time import use_virtual_clock

ACCOUNT = SimulatedAccount(projects=1, jobs=0, storage=StorageOptions(assets=4))
EVERY_S = 3600.0


class Events:
    """A reporter that keeps the ends of runs, and lets a test wait for an event."""

    def __init__(self) -> None:
        self.exit_codes: list[int] = []
        self._seen: dict[type, asyncio.Event] = {
            RunFinished: asyncio.Event(),
            TransferStarted: asyncio.Event(),
        }

    def report(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self.exit_codes.append(event.exit_code)
        if type(event) in self._seen:
            self._seen[type(event)].set()

    async def wait_for(self, kind: type) -> None:
        await self._seen[kind].wait()


class ServiceWorld:
    """A service, the simulator it downloads from, and the summaries of its runs."""

    def __init__(self, simulator: Simulator, output: Path) -> None:
        self.simulator, self.output = simulator, output
        self.events = Events()
        self.finished: asyncio.Queue[Any] = asyncio.Queue()
        self.hold: asyncio.Event | None = None
        self.failures = 0
        self.service = Service(
            self.plan(), SystemdNotifier({}), self.events, exit_code_of, clock=time.monotonic
        )

    def plan(self, *, every_s: float = EVERY_S, password: str = "", **settings: Any) -> ServicePlan:
        username, own_password = self.simulator.account_credentials
        account = AccountCredentials("account", username, SecretStr(password or own_password))
        fields: dict[str, Any] = {
            "source": "storage",
            "api_url": self.simulator.api_url,
            "output": self.output,
            "rate": 0,
            "retries": 0,
            **settings,
        }
        loaded = Settings(**fields)
        last_start_s = self.service.last_start_s if hasattr(self, "service") else -math.inf
        return ServicePlan(
            Downloader(loaded, credentials=CredentialSet(accounts=(account,)), reporter=self.events),
            IntervalSchedule(every_s, "", time.monotonic, last_start_s=last_start_s, draw=lambda: 0.0),
            lambda: [Selection.of(loaded, source="storage")],
            self.after_run,
        )

    async def after_run(self, _downloader: Downloader, summary: Any) -> None:
        self.finished.put_nowait(summary)
        self.failures -= 1
        if self.failures >= 0:
            raise RuntimeError("the step failed")
        if self.hold is not None:
            await self.hold.wait()

    async def next_run(self) -> Any:
        return await self.finished.get()

    @property
    def logins(self) -> int:
        return sum(request.endpoint == "login" for request in self.simulator.requests)


@asynccontextmanager
async def running_service(folder: Path, **options: Any) -> AsyncIterator[ServiceWorld]:
    async with Simulator(options.pop("account", ACCOUNT), **options) as simulator:
        world = ServiceWorld(simulator, folder / "out")
        task = asyncio.create_task(world.service.execute())
        try:
            yield world
            world.service.stop(ExitCode.TERMINATED)
            await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_service_runs_at_once_and_after_the_interval(tmp_path, monkeypatch):
    clock = use_virtual_clock(monkeypatch)
    async with running_service(tmp_path) as world:
        first = await world.next_run()
        started_s = world.service.last_start_s
        world.simulator.add_assets(2)
        second = await world.next_run()
        assert first.exit_code == second.exit_code == 0
        assert 0 < second.outputs("completed") < first.outputs("completed")
        assert world.service.last_start_s - started_s == pytest.approx(EVERY_S, abs=2)
        assert clock.monotonic() >= started_s + EVERY_S


async def test_service_event_starts_a_run_without_waiting(tmp_path, monkeypatch):
    clock = use_virtual_clock(monkeypatch)
    async with running_service(tmp_path) as world:
        await world.next_run()
        world.simulator.add_assets(1)
        before_s = clock.monotonic()
        world.service.trigger()
        assert (await world.next_run()).outputs("completed") > 0
        assert clock.monotonic() - before_s < 60
        assert [run["trigger"] for run in world.service.document()["runs"]] == ["webhook", "schedule"]


async def test_service_events_during_a_run_start_one_more_run(tmp_path, monkeypatch):
    clock = use_virtual_clock(monkeypatch)
    async with running_service(tmp_path) as world:
        world.hold = asyncio.Event()
        await world.next_run()
        for _ in range(5):
            world.service.trigger()
        before_s = clock.monotonic()
        world.hold.set()
        await world.next_run()
        assert clock.monotonic() - before_s < 60
        await world.next_run()
        assert clock.monotonic() - before_s > EVERY_S - 60, "the five events cause one run"


async def test_service_event_before_the_end_of_an_extraction_is_looked_at_again(tmp_path, monkeypatch):
    clock = use_virtual_clock(monkeypatch)
    account = SimulatedAccount(projects=1, jobs=0, storage=StorageOptions(assets=24))
    async with running_service(tmp_path, account=account) as world:
        await world.next_run()
        before_s = clock.monotonic()
        world.service.trigger()
        assert (await world.next_run()).containers.unfinished > 0
        await world.next_run()
        assert RECHECK_DELAYS_S[0] <= clock.monotonic() - before_s < RECHECK_DELAYS_S[0] + 60
        world.simulator.settle()
        assert (await world.next_run()).outputs("completed") > 0
        assert clock.monotonic() - before_s < sum(RECHECK_DELAYS_S[:2]) + 120
        await world.next_run()
        assert clock.monotonic() - before_s > EVERY_S, "nothing is unfinished any more"
        triggers = [run["trigger"] for run in world.service.document()["runs"]]
        assert triggers == ["schedule", "recheck", "recheck", "webhook", "schedule"]


async def test_service_uses_one_token_for_several_runs_and_releases_the_lease(tmp_path):
    async with running_service(tmp_path) as world:
        await world.next_run()
        world.service.trigger()
        await world.next_run()
        assert world.logins == 1
        async with open_locked_ledger(create_storage(world.output), "other"):
            pass  # it would raise OutputLockedError


async def test_service_locked_directory_is_reported_and_the_next_run_succeeds(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        world = ServiceWorld(simulator, tmp_path / "out")
        async with open_locked_ledger(create_storage(world.output), "other"):
            task = asyncio.create_task(world.service.execute())
            await world.events.wait_for(RunFinished)
        (run,) = world.service.document()["runs"]
        assert (run["exit_code"], run["run_id"]) == (11, None)
        assert "lock" in run["problem"]
        assert world.events.exit_codes == [11]
        world.service.trigger()
        assert (await world.next_run()).exit_code == 0
        world.service.stop(ExitCode.TERMINATED)
        assert await task == 0


async def test_service_refused_login_does_not_end_it_and_is_tried_again(tmp_path, monkeypatch):
    use_virtual_clock(monkeypatch)
    rules = Faults.from_rules({"fault": "status", "status": 401, "endpoint": "login", "first": 1})
    async with running_service(tmp_path, faults=rules) as world:
        assert (await world.next_run()).exit_code == 7
        assert (await world.next_run()).exit_code == 0
        assert [run["exit_code"] for run in world.service.document()["runs"]] == [0, 7]


async def test_service_new_plan_replaces_the_downloader_and_keeps_the_interval(tmp_path, monkeypatch):
    clock = use_virtual_clock(monkeypatch)
    async with running_service(tmp_path) as world:
        await world.next_run()
        started_s = world.service.last_start_s
        world.service.replace_plan(world.plan(every_s=7200, only=frozenset({"metadata"})))
        summary = await world.next_run()
        assert {kind for kind, *_ in summary.counts} == {"metadata"}
        assert clock.monotonic() - started_s == pytest.approx(7200, abs=60)


async def test_service_stop_during_a_run_returns_the_code_of_the_signal(tmp_path):
    stall = Faults.from_rules({"fault": "stall", "at_byte": 1, "seconds": 3600.0, "endpoint": "object"})
    async with Simulator(ACCOUNT, faults=stall) as simulator:
        world = ServiceWorld(simulator, tmp_path / "out")
        task = asyncio.create_task(world.service.execute())
        await world.events.wait_for(TransferStarted)
        world.service.stop(ExitCode.TERMINATED)
        world.service.stop(ExitCode.TERMINATED)
        assert await task is ExitCode.TERMINATED
        assert world.service.document()["state"] == "stopping"
        assert world.service.document()["next_run_at"] is None


async def test_service_failed_step_after_a_run_does_not_end_it(tmp_path):
    async with running_service(tmp_path) as world:
        world.failures = 1
        await world.next_run()
        world.service.trigger()
        assert (await world.next_run()).exit_code == 0


async def test_service_second_stop_cancels_the_step_after_a_run(tmp_path):
    async with running_service(tmp_path) as world:
        world.hold = asyncio.Event()
        await world.next_run()
        world.service.stop(ExitCode.INTERRUPTED)
        world.service.stop(ExitCode.INTERRUPTED)
