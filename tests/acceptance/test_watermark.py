"""
``--since last``: the jobs since the last complete run, and the missing outputs of older jobs.

The simulated jobs are years old, so the overlap places the watermark between two of them.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bulkdl import Downloader, Selection, Settings
from bulkdl.maintenance.status import read_status
from bulkdl.settings import CredentialSet
from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.expected import ExpectedOutput
from support.cli_runs import CliEnvironment, cli_environment

# The first six jobs are finished, the seventh is RUNNING, the others are created later.
ACCOUNT = SimulatedAccount(projects=1, jobs=7, archive_bytes=2_000)
LATER = 10
SWIFT: dict[str, Any] = {"retry_base_delay": 0.001, "retries": 1, "rate": 0}


def overlap_before(number: int) -> float:
    """Return an overlap with which only the jobs from *number* on are newer than the watermark."""
    between_at = ACCOUNT.job(0, number).created_at - timedelta(hours=1)
    return (datetime.now(UTC) - between_at).total_seconds()


async def run_and_summarise(
    environment: CliEnvironment, *, jobs: tuple[str, ...] = (), code: int = 0, **settings: Any
) -> dict[str, Any]:
    """Run, and return the summary. The request log of the simulator starts with this run."""
    environment.simulator.requests.clear()
    async with downloader(environment, **settings) as loader:
        summary = await loader.run(Selection.of(loader._settings, jobs=jobs))
    assert summary.exit_code == code, summary
    return summary.as_dict()


async def plan_and_summarise(environment: CliEnvironment, **settings: Any) -> dict[str, Any]:
    async with downloader(environment, **settings) as loader:
        return (await loader.plan()).as_dict()


def downloader(environment: CliEnvironment, **settings: Any) -> Downloader:
    chosen = Settings(api_url=environment.simulator.api_url, output=environment.root, **{**SWIFT, **settings})
    return Downloader(chosen, credentials=environment.credentials())


async def run_since_last(environment: CliEnvironment, **more: Any) -> dict[str, Any]:
    return await run_and_summarise(environment, since="last", **more)


def watermarks(environment: CliEnvironment) -> int:
    """Count the runs that can be a watermark."""
    query = "SELECT count(*) FROM run_sources WHERE scope IS NOT NULL AND exit_code = 0"
    count: int = environment.query_ledger(query)[0][0]
    return count


def files_of(root: Path) -> dict[str, bytes]:
    """Return all files except those that SQLite creates while a database is open."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def outputs_of(environment: CliEnvironment, *numbers: int) -> list[ExpectedOutput]:
    ids = {environment.simulator.account.job(0, number).id for number in numbers}
    return [output for output in environment.simulator.expected_outputs() if output.job_id in ids]


async def test_since_last_downloads_all_jobs_first_and_newer_jobs_next(tmp_path: Path) -> None:
    flags = ("--since", "last", "--format", "json")
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        first = await environment.bulkdl(*flags)
        assert first.process.returncode == 0, first.log
        assert first.summary["containers"]["selected"] == ACCOUNT.jobs
        environment.simulator.evolve(jobs=LATER)
        overlap = ("--since-overlap", f"{overlap_before(8):.0f}s")
        plan = await environment.bulkdl(*flags, *overlap, command="plan")
        second = await environment.bulkdl(*flags, *overlap)
        assert second.summary["containers"]["selected"] == plan.summary["containers"]["selected"] == 2
        assert second.summary["outputs"]["completed"] == plan.summary["outputs_total"]


async def test_since_last_requests_nothing_of_older_jobs(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        assert (await run_since_last(environment))["containers"]["selected"] == ACCOUNT.jobs
        assert environment.has_complete_output()
        environment.simulator.evolve(jobs=LATER)
        before = files_of(environment.root)
        plan = await plan_and_summarise(environment, since="last", since_overlap=overlap_before(8))
        assert files_of(environment.root) == before
        second = await run_since_last(environment, since_overlap=overlap_before(8))
        new = {environment.simulator.account.job(0, number).id for number in (8, 9)}
        assert {request.path.split("/")[4] for request in environment.requests_to("tasks")} == new
        assert second["containers"]["selected"] == plan["containers"]["selected"] == len(new)
        assert second["outputs"]["completed"] == plan["outputs_total"]
        assert {output["container_id"] for output in plan["outputs"]} <= new
        third = await run_since_last(environment)
        assert third["containers"]["selected"] == 0
        assert {request.endpoint for request in environment.simulator.requests} == {"token", "jobs"}


async def test_since_overlap_includes_jobs_before_the_last_run(tmp_path: Path) -> None:
    """A job that appears late with an older date is downloaded while the overlap includes it."""
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_since_last(environment)
        environment.simulator.evolve(jobs=LATER)
        assert (await run_since_last(environment))["outputs"][
            "completed"
        ] == 0  # two days do not include that job
        assert len(environment.find_missing_outputs()) == len(outputs_of(environment, *range(7, LATER))) > 0
        await run_since_last(environment, since_overlap=overlap_before(7))
        assert environment.has_complete_output()


async def test_since_last_downloads_a_job_that_finishes_after_the_overlap(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        assert (await run_since_last(environment))["containers"]["unfinished"] == 1
        again = await run_since_last(environment)
        assert (again["containers"]["selected"], again["outputs"]["completed"]) == (0, 0)
        environment.simulator.evolve(all_finished=True)
        plan = await plan_and_summarise(environment, since="last")
        assert plan["outputs_total"] == len(outputs_of(environment, 6)) > 0
        assert (await run_since_last(environment))["outputs"]["completed"] == plan["outputs_total"]
        assert len(environment.requests_to("tasks")) == 1
        assert environment.has_complete_output()


@pytest.mark.parametrize("first", [{"since": "last"}, {}], ids=json.dumps)
async def test_since_last_with_a_status_downloads_a_job_that_finishes_later(
    tmp_path: Path, first: dict[str, Any]
) -> None:
    """The filter excluded the job while it was RUNNING."""
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        before = await run_and_summarise(environment, status="SUCCEEDED", **first)
        assert before["containers"]["unfinished"] == 0
        assert before["containers"]["selected"] == 5
        environment.simulator.evolve(all_finished=True)
        late = await run_since_last(environment, status="SUCCEEDED")
        assert late["outputs"]["completed"] == len(outputs_of(environment, 6)) > 0
        assert (await run_since_last(environment, status="FAILED"))["containers"]["selected"] == 1
        assert environment.has_complete_output()


async def test_since_last_does_not_wait_for_a_job_that_ended_with_another_status(tmp_path: Path) -> None:
    """The job was RUNNING when FAILED jobs were selected, and has SUCCEEDED since."""
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_since_last(environment, status="FAILED")
        assert (await read_status(environment.root)).containers["jobs"]["unfinished"] == 1
        await run_since_last(environment)
        environment.simulator.evolve(all_finished=True)
        await run_since_last(environment, status="FAILED")
        known = (await read_status(environment.root)).containers["jobs"]
        assert (known.get("unfinished"), known["not_selected"]) == (None, 1)
        assert environment.find_missing_outputs()
        await run_since_last(environment)
        assert (await read_status(environment.root)).containers == {"jobs": {"up_to_date": ACCOUNT.jobs}}
        assert environment.has_complete_output()


async def test_since_last_downloads_an_unfinished_job_that_only_a_plan_listed(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await plan_and_summarise(environment, since="last")
        assert not environment.root.exists()
        environment.simulator.evolve(all_finished=True)
        await run_since_last(environment)
        assert environment.has_complete_output()


FAULTS = {
    "output": ({"fault": "status", "status": 410, "endpoint": "geojson", "limit": 1}, 3),
    "archive": ({"fault": "html", "server": "storage", "limit": 2, "per": "object", "first": 2}, 5),
    "list of quicklooks": ({"fault": "html", "endpoint": "quicklooks"}, 5),
    "tasks": ({"fault": "status", "status": 400, "endpoint": "tasks", "limit": 1}, 3),
    "jobs": ({"fault": "html", "endpoint": "jobs"}, 5),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_run_with_failures_does_not_change_the_watermark(tmp_path: Path, name: str) -> None:
    fault, code = FAULTS[name]
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        environment.set_faults(fault)
        await run_since_last(environment, code=code, retries=0)
        assert watermarks(environment) == 0
        assert environment.find_missing_outputs()
        environment.set_faults()
        assert (await run_since_last(environment))["containers"]["selected"] == ACCOUNT.jobs
        assert watermarks(environment) == 1
        assert environment.has_complete_output()


@pytest.mark.parametrize("name", ["output", "archive", "list of quicklooks", "tasks"])
async def test_since_last_retries_failed_outputs_of_older_jobs(tmp_path: Path, name: str) -> None:
    """An old job finishes after the watermark, and then one of its outputs fails repeatedly."""
    fault, code = FAULTS[name]
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_since_last(environment)
        environment.simulator.evolve(all_finished=True)
        for _ in range(2):
            environment.set_faults(fault)
            assert (await run_since_last(environment, code=code, retries=0))["containers"]["selected"] == 0
            assert environment.find_missing_outputs()
        environment.set_faults()
        await run_since_last(environment)
        assert environment.has_complete_output()


async def test_since_last_downloads_a_missing_file_of_an_older_job(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_since_last(environment)
        min(environment.root.rglob("job_output.json")).unlink()
        min(environment.root.rglob("task_output.*")).unlink()
        again = await run_since_last(environment)
        assert (again["containers"]["selected"], again["outputs"]["completed"]) == (0, 2)
        assert environment.has_complete_output()


@pytest.mark.parametrize(
    "narrowed",
    [
        {"jobs": (ACCOUNT.job(0, 0).id,)},
        {"since": "3000d"},
        {"until": "2100-01-01"},
        {"since": "last", "until": "2100-01-01"},
    ],
    ids=json.dumps,
)
async def test_run_with_a_filter_sets_no_watermark(tmp_path: Path, narrowed: dict[str, Any]) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_and_summarise(environment, **narrowed)
        assert watermarks(environment) == 0
        assert (await run_since_last(environment))["containers"]["selected"] == ACCOUNT.jobs
        assert watermarks(environment) == 1
        assert environment.has_complete_output()


async def test_run_of_all_jobs_sets_a_watermark(tmp_path: Path) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_and_summarise(environment)
        assert watermarks(environment) == 1
        assert (await run_since_last(environment))["containers"]["selected"] == 0


@pytest.mark.parametrize(
    "other",
    [
        {"only": "geojson"},
        {"scope": "task"},
        {"status": "FAILED"},
        {"mode": "DRY_RUN"},
        {"name": "ndvi*"},
        {"workflow": ACCOUNT.job(0, 0).workflow_id},
        {"shard": "0/2"},
    ],
    ids=json.dumps,
)
async def test_watermarks_of_different_selections_are_separate(tmp_path: Path, other: dict[str, Any]) -> None:
    """A run of GeoJSON files does not cover the archives, and a run of one status not the other statuses."""
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_since_last(environment, **other)
        assert (await run_since_last(environment, **other))["containers"]["selected"] == 0
        assert (await run_since_last(environment))["containers"]["selected"] == ACCOUNT.jobs
        assert environment.has_complete_output()


async def test_since_last_downloads_all_jobs_of_a_new_project(tmp_path: Path) -> None:
    """Without -p, a run includes every project with a key. The previous run had fewer keys."""
    async with cli_environment(
        tmp_path, SimulatedAccount(projects=2, jobs=10, archive_bytes=2_000)
    ) as environment:
        first, second = environment.credentials().project_ids
        keys = environment.credentials().by_project
        settings = Settings(
            api_url=environment.simulator.api_url, output=environment.root, since="last", **SWIFT
        )
        for project_ids in ((first,), (first, second)):
            book = CredentialSet(
                {project_id: keys[project_id] for project_id in project_ids}, project_ids=project_ids
            )
            async with Downloader(settings, credentials=book) as loader:
                summary = await loader.run()
            assert (summary.exit_code, summary.containers.selected) == (0, 5 * len(project_ids))
        assert environment.has_complete_output()
        assert (await run_since_last(environment))["containers"]["selected"] == 0


async def test_run_that_is_stopped_sets_no_watermark(tmp_path: Path) -> None:
    """A run that ``Downloader.stop`` ended must not hide its missing jobs from the next run."""
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        async with downloader(environment, since="last") as loader, loader.stream() as results:
            async for _ in results:
                loader.stop()
        assert loader.summary is not None
        assert loader.summary.exit_code == 130
        assert environment.find_missing_outputs()
        assert watermarks(environment) == 0
        await run_since_last(environment)
        assert environment.has_complete_output()


@pytest.mark.parametrize("budget", [{"max_transfer": 1}, {"max_duration": 0.001}])
async def test_run_that_reached_a_limit_sets_no_watermark(tmp_path: Path, budget: dict[str, Any]) -> None:
    async with cli_environment(tmp_path, ACCOUNT) as environment:
        await run_since_last(environment, code=8 if "max_transfer" in budget else 10, **budget)
        assert watermarks(environment) == 0
        await run_since_last(environment)
        assert environment.has_complete_output()
