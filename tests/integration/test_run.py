"""Runs of the library with the simulator: real sockets, files and SQLite."""

import asyncio
from collections import Counter

import pytest

from bulkdl import Selection, Settings
from bulkdl.errors import OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.models import Outcome, Reason
from bulkdl.simulator import Faults
from bulkdl.sources.up42_jobs.models import Kind
from support.library_runs import TAME, library_environment


@pytest.fixture
async def site(tmp_path):
    async with library_environment(tmp_path) as site:
        yield site


@pytest.fixture
async def tame(tmp_path):
    """A site without hostile names: the file names are the names of UP42."""
    async with library_environment(tmp_path, TAME) as site:
        yield site


async def test_run_files_are_identical_to_the_outputs_of_up42(tame):
    tame.simulator.evolve(projects=3, jobs=50)
    summary = await tame.run()
    assert (summary.exit_code, summary.failures, summary.problems) == (ExitCode.OK, [], [])
    assert tame.read_files() == tame.expected_files()
    skipped = summary.counts[Kind.ARCHIVE, Outcome.SKIPPED, Reason.NOT_AVAILABLE].outputs
    assert skipped == sum(skip.kind == Kind.ARCHIVE for skip in tame.simulator.expected_skips())
    assert summary.containers.unfinished == sum(skip.kind is None for skip in tame.simulator.expected_skips())


async def test_run_hostile_names_stay_in_their_directory_and_are_complete(site):
    summary = await site.run()
    assert summary.exit_code is ExitCode.OK
    files = Counter((path.rpartition("/")[0], body) for path, body in site.read_files().items())
    expected = Counter()
    for path, body in site.expected_files().items():
        directory = "/".join(path.split("/")[:4]) if "/quicklooks/" in path else path.rpartition("/")[0]
        expected[directory, body] += 1
    assert files == expected
    assert all(path.is_relative_to(site.output) for path in site.output.parent.rglob("*") if path.is_file())


async def test_run_downloads_each_storage_object_once(site):
    summary = await site.run()
    assert site.storage_bytes() == site.object_bytes()
    assert summary.counts[Kind.ARCHIVE, Outcome.COMPLETED, Reason.LINKED].outputs > 0


async def test_run_archive_of_job_and_last_task_are_one_file(site):
    await site.run()
    finals = list(site.output.rglob("final_output.*"))
    assert finals
    assert all(final.stat().st_nlink == 2 for final in finals)


async def test_run_second_run_requests_only_job_lists(site):
    await site.run()
    before = site.read_files()
    summary = await site.run()
    assert {endpoint for _, endpoint in site.request_counts()} == {"jobs", "token"}
    assert (summary.exit_code, summary.downloaded_bytes, site.storage_bytes()) == (ExitCode.OK, 0, 0)
    assert summary.outputs(Outcome.COMPLETED) == 0
    assert site.read_files() == before


async def test_run_job_that_finished_since_the_last_run_is_downloaded(tame):
    await tame.run()
    before = tame.read_files()
    tame.simulator.evolve(all_finished=True)
    summary = await tame.run()
    assert summary.exit_code is ExitCode.OK
    after = tame.read_files()
    assert after == tame.expected_files()
    assert len(after) > len(before)
    new = sum(
        len(after[path])
        for path in set(after) - set(before)
        if "/task_output.t" in path or path.endswith(".zip")
    )
    assert 0 < tame.storage_bytes() <= new


async def test_run_downloads_only_deleted_and_truncated_files_again(tame):
    await tame.run()
    victims = [next(tame.output.rglob(name)) for name in ("task_output.tar.gz", "job_output.json", "*.png")]
    victims[0].unlink()
    victims[1].write_bytes(b"")
    victims[2].unlink()
    summary = await tame.run()
    assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 3)
    assert tame.read_files() == tame.expected_files()


async def test_run_leaves_no_partial_files(site):
    await site.run()
    assert list((site.output / ".bulkdl" / "parts").iterdir()) == []


async def test_run_failed_quicklook_list_does_not_affect_other_outputs(tame):
    tame.simulator.faults = Faults.from_rules({"fault": "status", "status": 500, "endpoint": "quicklooks"})
    summary = await tame.run()
    assert summary.exit_code is ExitCode.TEMPORARY
    assert tame.read_files() == tame.expected_files(but=lambda output: output.kind == Kind.QUICKLOOK)
    assert {row.reason for row in summary.failures} == {Reason.SERVER_ERROR}
    tame.simulator.faults = None
    summary = await tame.run()
    assert summary.exit_code is ExitCode.OK
    assert tame.read_files() == tame.expected_files()
    assert tame.storage_bytes() == 0


async def test_run_permanently_failed_output_does_not_affect_other_outputs(tame):
    broken = next(output for output in tame.simulator.expected_outputs() if output.kind == Kind.GEOJSON)
    path = f"*/jobs/{broken.job_id}/outputs/data-json*"
    tame.simulator.faults = Faults.from_rules({"fault": "status", "status": 410, "path": path})
    summary = await tame.run()
    assert summary.exit_code is ExitCode.FAILED
    [failure] = summary.failures
    assert (failure.output.container.id, failure.output.parent, failure.reason) == (
        broken.job_id,
        "",
        Reason.REJECTED,
    )
    failed = (broken.job_id, None, Kind.GEOJSON)
    assert tame.read_files() == tame.expected_files(
        but=lambda output: (output.job_id, output.task_id, output.kind) == failed
    )


async def test_run_sends_no_credentials_to_the_storage(site):
    await site.run()
    requests = [request for request in site.simulator.requests if request.server == "storage"]
    assert requests
    assert all(
        "Authorization" not in request.headers and "Cookie" not in request.headers for request in requests
    )


async def test_run_downloads_only_selected_outputs(tame):
    job = next(job for job in tame.simulator.account.iter_jobs() if job.status == "SUCCEEDED")
    selection = Selection.of(Settings(only=["geojson"], scope=["task"]), jobs=[f"{job.project_id}/{job.id}"])
    summary = await tame.run(selection)
    assert summary.exit_code is ExitCode.OK
    assert set(tame.read_files()) == {
        f"{job.project_id}/{job.id}/{task.id}/task_output.json" for task in job.tasks
    }
    assert ("api", "jobs") not in tame.request_counts()


async def test_run_unknown_job_does_not_affect_other_jobs(tame):
    job = next(job for job in tame.simulator.account.iter_jobs() if job.status == "SUCCEEDED")
    unknown = f"{job.project_id}/00000000-0000-4000-8000-000000000000"
    selection = Selection.of(Settings(), jobs=[unknown, f"{job.project_id}/{job.id}"])
    summary = await tame.run(selection)
    assert summary.exit_code is ExitCode.NOT_FOUND
    assert len(tame.read_files()) > 2


async def test_plan_downloads_and_writes_nothing(tame):
    async with tame.downloader() as downloader:
        plan = await downloader.plan()
    assert not tame.output.exists()
    assert tame.storage_bytes() == 0
    assert plan.summary.exit_code is ExitCode.OK


async def test_run_locked_directory_is_an_error(site):
    site.simulator.latency_s = 0.02
    async with site.downloader() as first, site.downloader() as second:
        async with first.stream() as results:
            await anext(results)
            with pytest.raises(OutputLockedError):
                await second.run()
        assert (await second.run()).exit_code is ExitCode.OK


async def test_stream_yields_every_result_and_sets_the_summary(site):
    async with site.downloader() as downloader, downloader.stream() as stream:
        results = [result async for result in stream]
    assert downloader.summary is not None
    assert len(results) == len({result.output for result in results}) == downloader.summary.outputs()
    completed = {
        (result.output.container.id, result.output.parent or None, result.output.kind, result.output.name)
        for result in results
        if result.outcome is Outcome.COMPLETED
    }
    assert completed == {
        (output.job_id, output.task_id, output.kind, output.name)
        for output in site.simulator.expected_outputs()
    }
    for result in results:
        if result.file:
            assert (site.output / result.file.key).stat().st_size == result.file.size_bytes


async def test_stream_left_early_stops_the_run_and_the_next_run_completes(tame):
    async with tame.downloader() as downloader:
        async with downloader.stream() as results:
            async for _ in results:
                break
        assert {task.get_name() for task in asyncio.all_tasks()}.isdisjoint({"run", "front", "back"})
        assert len(tame.read_files()) < len(tame.expected_files())
    assert (await tame.run()).exit_code is ExitCode.OK
    assert tame.read_files() == tame.expected_files()


async def test_stop_keeps_completed_outputs_and_the_next_run_resumes(tame):
    async with tame.downloader() as downloader:
        results_seen = 0
        async with downloader.stream() as results:
            async for _ in results:
                results_seen += 1
                if results_seen == 5:
                    downloader.stop()
    assert downloader.summary is not None
    assert downloader.summary.outputs(Outcome.FAILED) == 0
    assert len(tame.read_files()) < len(tame.expected_files())
    assert (await tame.run()).exit_code is ExitCode.OK
    assert tame.read_files() == tame.expected_files()


async def test_run_with_all_faults_ends_with_correct_files(tame):
    tame.simulator.faults = Faults.from_rules(
        {"fault": "cut", "at_fraction": 0.5, "server": "storage", "nth": 1, "per": "object"},
        {
            "fault": "flip",
            "at_fraction": 0.9,
            "server": "storage",
            "nth": 2,
            "per": "object",
            "probability": 0.3,
        },
        {"fault": "url_expired", "probability": 0.2},
        {"fault": "status", "status": 503, "server": "api", "every": 7},
        {"fault": "unauthorized", "every": 11},
        seed=7,
    )
    summary = await tame.run(retries=11)
    assert (summary.exit_code, summary.failures) == (ExitCode.OK, [])
    assert tame.read_files() == tame.expected_files()
