"""Enumeration of jobs that change at UP42 between two runs or during a run."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bulkdl.concurrency import WaitQueue
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.graph.enumeration import Enumeration
from bulkdl.graph.ledger_view import RunLedgerView
from bulkdl.graph.pools import OutputDownloader
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.maintenance.status import read_status
from bulkdl.models import Container, Outcome, Reason, Result
from bulkdl.selection import ContainerSelector, Selection
from bulkdl.simulator import SimulatedAccount
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.sources.up42_jobs.pagination import RecentIds
from bulkdl.sources.up42_jobs.source import JobsSource
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.telemetry.events import ContainerEnumerated, Event, TransferEnded
from bulkdl.telemetry.metrics import Metrics
from support.fault_runs import RecordingFaults, RunEnvironment, run_environment

ACCOUNT = SimulatedAccount(projects=1, jobs=6, archive_bytes=3_000)
JOB = ACCOUNT.job(0, 0)
FIRST_TASK = JOB.tasks[0]


@pytest.fixture
def changed(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """Count the log events container.changed so far."""
    caplog.set_level(logging.DEBUG, "bulkdl")
    return lambda: sum("container.changed" in str(record.msg) for record in caplog.records)


async def test_run_task_that_finishes_after_its_job_is_taken_up_by_a_later_run(tmp_path: Path) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        environment.simulator.evolve(running=frozenset({FIRST_TASK.id}))
        first = await environment.run()
        assert (first.exit_code, first.summary.containers.unfinished) == (0, 1)
        assert environment.has_complete_output()
        assert (await read_status(environment.root)).containers == {
            "jobs": {"up_to_date": 5, "unfinished": 1}
        }
        again = await environment.run()
        assert len(again.requests_to("tasks")) == 1, "only the job with the open task is listed again"
        environment.simulator.evolve(running=frozenset())
        assert environment.find_missing_outputs()
        late = await environment.run()
        assert (late.exit_code, late.summary.containers.unfinished) == (0, 0)
        assert environment.has_complete_output()
        settled = await environment.run()
        assert settled.requests_to("tasks") == []
        assert (await read_status(environment.root)).containers == {"jobs": {"up_to_date": 6}}


async def run_job(environment: RunEnvironment, **more: Any) -> Any:
    environment.simulator.requests.clear()
    selection = Selection(containers=(ContainerSelector(JOB.project_id, JOB.id),), **more)
    async with environment.downloader() as downloader:
        return await downloader.run(selection)


async def test_run_job_by_id_that_ran_again_is_downloaded_again(
    tmp_path: Path, changed: Callable[[], int]
) -> None:
    async with run_environment(tmp_path, ACCOUNT) as environment:
        first = await run_job(environment)
        quiet = await run_job(environment)
        assert [request.endpoint for request in environment.simulator.requests] == ["token", "job"]
        assert quiet.outputs(Outcome.COMPLETED) == 0
        assert changed() == 0
        environment.simulator.evolve(rerun=frozenset({JOB.id}))
        again = await run_job(environment)
        assert again.outputs(Outcome.COMPLETED) == first.outputs(Outcome.COMPLETED)
        assert changed() == 1


async def test_run_job_that_was_unfinished_is_not_logged_as_changed(
    tmp_path: Path, changed: Callable[[], int]
) -> None:
    async with run_environment(
        tmp_path, SimulatedAccount(projects=1, jobs=7, archive_bytes=3_000)
    ) as environment:
        assert (await environment.run()).summary.containers.unfinished == 1
        environment.simulator.evolve(all_finished=True)
        assert (await environment.run()).summary.outputs(Outcome.COMPLETED)
        assert environment.has_complete_output()
        assert changed() == 0


class Counting:
    """Counts the planned and the ended outputs of the events."""

    def __init__(self) -> None:
        self.metrics = Metrics("test", SPEC.kind_names, lambda: 0.0)
        self.planned = self.ended = 0
        self.ended_by_job: Counter[str] = Counter()
        self.changes = WaitQueue()

    def report(self, event: Event) -> None:
        self.metrics.report(event)
        match event:
            case ContainerEnumerated(planned=planned):
                self.planned += planned
            case TransferEnded(result=result):
                self.ended += 1
                self.ended_by_job[result.output.container.id] += 1
                self.changes.notify_all()

    def open(self) -> list[float]:
        lines = self.metrics.render_textfile().decode().splitlines()
        return [float(line.split()[-1]) for line in lines if line.startswith("bulkdl_outputs_open{")]


@pytest.mark.parametrize("remembered", [10_000, 0])
async def test_run_job_listed_twice_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    """Without memory of earlier pages, a job on two overlapping pages is listed twice."""
    monkeypatch.setattr(RecentIds.__init__, "__defaults__", (remembered,))
    account = SimulatedAccount(projects=1, jobs=6, archive_bytes=3_000)
    async with run_environment(tmp_path, account, simulator_options={"page_size": 2}) as environment:
        counting = Counting()
        rules = {"fault": "repeat_pages", "overlap": 1, "forever": False}
        summary = await run_counted(environment, counting, rules)
        expected = {
            kind: sum(output.kind == kind for output in environment.simulator.expected_outputs())
            for kind in Kind
        }
        done = {
            kind: sum(
                count.outputs
                for (count_kind, outcome, _), count in summary.counts.items()
                if count_kind == kind and outcome is not Outcome.CANCELLED
            )
            for kind in Kind
        }
        assert done == expected
        assert counting.planned == counting.ended == sum(expected.values())
        assert counting.open() == [0.0] * len(Kind)


async def test_run_job_listed_twice_with_an_old_ledger_record_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The second listing uses a ledger record that was read before the outputs of the first one were recorded.

    Each listing waits until all pages are compared. The second listing of a job also waits until all outputs
    of the job have ended.
    """
    monkeypatch.setattr(RecentIds.__init__, "__defaults__", (0,))
    all_compared = asyncio.Event()
    listed: Counter[str] = Counter()
    find_jobs, list_outputs = Enumeration.find_containers, JobsSource.list_outputs
    counting = Counting()

    async def find_and_report(enumeration: Enumeration) -> None:
        await find_jobs(enumeration)
        all_compared.set()

    async def list_in_order(source: JobsSource, job: Container, kinds: frozenset[str]) -> ContainerListing:
        await all_compared.wait()
        listed[job.ref.id] += 1
        if listed[job.ref.id] > 1:
            expected = sum(output.job_id == job.ref.id for output in environment.simulator.expected_outputs())
            await counting.changes.wait_for(lambda: counting.ended_by_job[job.ref.id] >= expected)
        return await list_outputs(source, job, kinds)

    monkeypatch.setattr(Enumeration, "find_containers", find_and_report)
    monkeypatch.setattr(JobsSource, "list_outputs", list_in_order)
    account = SimulatedAccount(projects=1, jobs=6, archive_bytes=3_000)
    async with run_environment(tmp_path, account, simulator_options={"page_size": 2}) as environment:
        rules = {"fault": "repeat_pages", "overlap": 1, "forever": False}
        async with asyncio.timeout(30):
            summary = await run_counted(environment, counting, rules, list_concurrency=1)
        assert max(listed.values()) == 2, "a job was listed twice"
        expected = len(list(environment.simulator.expected_outputs()))
        assert sum(summary.outputs(outcome) for outcome in Outcome) == expected
        assert counting.planned == counting.ended == expected


async def test_run_job_listed_again_after_a_failure_does_not_repeat_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of jobs is compared only after all outputs of the jobs that it repeats have ended."""
    monkeypatch.setattr(RecentIds.__init__, "__defaults__", (0,))
    monkeypatch.setattr("bulkdl.graph.discovery.PAGE_SIZE", 2)
    counting, compared, repeated = Counting(), set[str](), set[str]()
    known_containers = RunLedgerView.known_containers

    async def read_after_end(view: RunLedgerView, source: str, scope: str, ids: Sequence[str]) -> Any:
        for job_id in compared.intersection(ids):
            expected = sum(output.job_id == job_id for output in environment.simulator.expected_outputs())
            await counting.changes.wait_for(lambda: counting.ended_by_job[job_id] >= expected)  # noqa: B023
            repeated.add(job_id)
        compared.update(ids)
        return await known_containers(view, source, scope, ids)

    monkeypatch.setattr(RunLedgerView, "known_containers", read_after_end)
    account = SimulatedAccount(projects=1, jobs=6, archive_bytes=3_000)
    async with run_environment(tmp_path, account, simulator_options={"page_size": 2}) as environment:
        repeat = {"fault": "repeat_pages", "overlap": 1, "forever": False}
        fail = {"fault": "status", "status": 400, "endpoint": "geojson"}
        async with asyncio.timeout(30):
            summary = await run_counted(environment, counting, repeat, fail)
        expected = len(list(environment.simulator.expected_outputs()))
        assert repeated
        assert summary.outputs(Outcome.FAILED)
        assert sum(summary.outputs(outcome) for outcome in Outcome) == expected
        assert counting.planned == counting.ended == expected


async def run_counted(
    environment: RunEnvironment, counting: Counting, *rules: dict[str, Any], **settings: Any
) -> Any:
    environment.simulator.faults = RecordingFaults.from_rules(*rules)
    chosen = environment._settings(settings)
    async with Downloader(chosen, credentials=environment.credentials(), reporter=counting) as downloader:
        return await downloader.run()


@pytest.mark.usefixtures("virtual_clock")
async def test_run_ended_by_max_transfer_leaves_no_output_open(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=200, archive_bytes=3_000)
    async with run_environment(tmp_path, account) as environment:
        counting = Counting()
        slow = {"fault": "latency", "seconds": 0.5, "endpoint": "geojson"}
        few = {"geojson_concurrency": 1, "quicklook_concurrency": 1, "archive_concurrency": 1}
        summary = await run_counted(environment, counting, slow, max_transfer=100_000, **few)
        assert summary.outputs(Outcome.CANCELLED)
        assert counting.planned == counting.ended
        assert counting.open() == [0.0] * len(Kind)


@pytest.mark.usefixtures("virtual_clock")
async def test_run_that_a_full_disk_stops_leaves_no_output_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_downloader: OutputDownloader, missing: PlannedOutput, *_: Any, **__: Any) -> Result:
        await asyncio.sleep(0.1)
        return Result(missing.output, Outcome.FAILED, Reason.DISK_FULL)

    monkeypatch.setattr(OutputDownloader, "download", fail)
    account = SimulatedAccount(projects=1, jobs=50, archive_bytes=3_000)
    few = {"geojson_concurrency": 1, "quicklook_concurrency": 1, "archive_concurrency": 1}
    async with run_environment(tmp_path, account) as environment:
        counting = Counting()
        summary = await run_counted(environment, counting, **few)
        assert summary.outputs(Outcome.CANCELLED)
        assert summary.exit_code is ExitCode.DISK_FULL
        assert counting.planned == counting.ended
        assert counting.open() == [0.0] * len(Kind)
