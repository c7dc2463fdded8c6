"""The library against the simulator: real sockets, real disk, real SQLite."""

import asyncio
from collections import Counter

import pytest

from bulkdl import Selection, Settings
from bulkdl.errors import OutputLockedError
from bulkdl.failure_policy import ExitCode
from bulkdl.models import Kind, Outcome, Reason
from bulkdl.simulator import Faults
from support.library_runs import TAME, library_environment


@pytest.fixture
async def site(tmp_path):
    async with library_environment(tmp_path) as made:
        yield made


@pytest.fixture
async def tame(tmp_path):
    """The same without hostile names, so that names on disk are those of UP42."""
    async with library_environment(tmp_path, TAME) as made:
        yield made


async def test_the_tree_is_what_up42_has_byte_for_byte(tame):
    tame.simulator.evolve(projects=3, jobs=50)
    summary = await tame.run()
    assert (summary.exit_code, summary.failures, summary.problems) == (ExitCode.OK, [], [])
    assert tame.read_files() == tame.expected_files()
    skipped = summary.counts[Kind.ARCHIVE, Outcome.SKIPPED, Reason.NOT_AVAILABLE].outputs
    assert skipped == sum(each.kind is Kind.ARCHIVE for each in tame.simulator.expected_skips())
    assert summary.jobs.unfinished == sum(each.kind is None for each in tame.simulator.expected_skips())


async def test_hostile_names_stay_in_their_folder_and_lose_nothing(site):
    summary = await site.run()
    assert summary.exit_code is ExitCode.OK
    found = Counter((path.rpartition("/")[0], body) for path, body in site.read_files().items())
    wanted = Counter()
    for path, body in site.expected_files().items():
        place = "/".join(path.split("/")[:4]) if "/quicklooks/" in path else path.rpartition("/")[0]
        wanted[place, body] += 1
    assert found == wanted
    assert all(path.is_relative_to(site.output) for path in site.output.parent.rglob("*") if path.is_file())


async def test_the_bytes_of_each_storage_object_travel_once(site):
    summary = await site.run()
    assert site.storage_bytes() == site.object_bytes()
    assert summary.counts[Kind.ARCHIVE, Outcome.COMPLETED, Reason.LINKED].outputs > 0


async def test_the_jobs_archive_and_that_of_its_last_task_are_one_file(site):
    await site.run()
    finals = list(site.output.rglob("final_output.*"))
    assert finals
    assert all(final.stat().st_nlink == 2 for final in finals)


async def test_a_second_run_asks_for_job_lists_only_and_moves_nothing(site):
    await site.run()
    before = site.read_files()
    summary = await site.run()
    assert {endpoint for _, endpoint in site.request_counts()} == {"jobs", "token"}
    assert (summary.exit_code, summary.downloaded_bytes, site.storage_bytes()) == (ExitCode.OK, 0, 0)
    assert summary.outputs(Outcome.COMPLETED) == 0
    assert site.read_files() == before


async def test_a_job_that_finishes_between_two_runs_is_picked_up(tame):
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


async def test_a_deleted_or_cut_file_is_fetched_again_and_nothing_else(tame):
    await tame.run()
    victims = [next(tame.output.rglob(name)) for name in ("task_output.tar.gz", "job_output.json", "*.png")]
    victims[0].unlink()
    victims[1].write_bytes(b"")
    victims[2].unlink()
    summary = await tame.run()
    assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 3)
    assert tame.read_files() == tame.expected_files()


async def test_nothing_is_left_of_parts_when_all_is_done(site):
    await site.run()
    assert list((site.output / ".bulkdl" / "parts").iterdir()) == []


async def test_a_list_of_quicklooks_that_fails_does_not_stop_the_rest(tame):
    tame.simulator.faults = Faults.from_rules({"fault": "status", "status": 500, "endpoint": "quicklooks"})
    summary = await tame.run()
    assert summary.exit_code is ExitCode.TEMPORARY
    assert tame.read_files() == tame.expected_files(but=lambda each: each.kind is Kind.QUICKLOOK)
    assert {row.reason for row in summary.failures} == {Reason.SERVER_ERROR}
    tame.simulator.faults = None
    summary = await tame.run()
    assert summary.exit_code is ExitCode.OK
    assert tame.read_files() == tame.expected_files()
    assert tame.storage_bytes() == 0


async def test_one_output_that_fails_for_good_stops_only_itself(tame):
    broken = next(each for each in tame.simulator.expected_outputs() if each.kind is Kind.GEOJSON)
    path = f"*/jobs/{broken.job_id}/outputs/data-json*"
    tame.simulator.faults = Faults.from_rules({"fault": "status", "status": 410, "path": path})
    summary = await tame.run()
    assert summary.exit_code is ExitCode.FAILED
    [failure] = summary.failures
    assert (failure.output.job_id, failure.output.task_id, failure.reason) == (
        broken.job_id,
        None,
        Reason.REJECTED,
    )
    gone = (broken.job_id, None, Kind.GEOJSON)
    assert tame.read_files() == tame.expected_files(
        but=lambda each: (each.job_id, each.task_id, each.kind) == gone
    )


async def test_storage_never_sees_a_credential(site):
    await site.run()
    stored = [seen for seen in site.simulator.requests if seen.server == "storage"]
    assert stored
    assert all("Authorization" not in seen.headers and "Cookie" not in seen.headers for seen in stored)


async def test_only_what_is_selected_is_fetched(tame):
    job = next(each for each in tame.simulator.account.iter_jobs() if each.status == "SUCCEEDED")
    selection = Selection.of(Settings(only=["geojson"], scope=["task"]), jobs=[f"{job.project_id}/{job.id}"])
    summary = await tame.run(selection)
    assert summary.exit_code is ExitCode.OK
    assert set(tame.read_files()) == {
        f"{job.project_id}/{job.id}/{task.id}/task_output.json" for task in job.tasks
    }
    assert ("api", "jobs") not in tame.request_counts()


async def test_a_job_that_up42_does_not_know_stops_none_of_the_others(tame):
    job = next(each for each in tame.simulator.account.iter_jobs() if each.status == "SUCCEEDED")
    unknown = f"{job.project_id}/00000000-0000-4000-8000-000000000000"
    selection = Selection.of(Settings(), jobs=[unknown, f"{job.project_id}/{job.id}"])
    summary = await tame.run(selection)
    assert summary.exit_code is ExitCode.NOT_FOUND
    assert len(tame.read_files()) > 2


async def test_a_plan_moves_nothing_and_writes_nothing(tame):
    async with tame.downloader() as downloader:
        plan = await downloader.plan()
    assert not tame.output.exists()
    assert tame.storage_bytes() == 0
    assert plan.summary.exit_code is ExitCode.OK


async def test_two_runs_cannot_share_a_directory(site):
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
        (result.output.job_id, result.output.task_id, result.output.kind, result.output.name)
        for result in results
        if result.outcome is Outcome.COMPLETED
    }
    assert completed == {
        (each.job_id, each.task_id, each.kind, each.name) for each in site.simulator.expected_outputs()
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


async def test_a_stopped_run_keeps_what_it_has_and_the_next_one_goes_on(tame):
    async with tame.downloader() as downloader:
        seen = 0
        async with downloader.stream() as results:
            async for _ in results:
                seen += 1
                if seen == 5:
                    downloader.stop()
    assert downloader.summary is not None
    assert downloader.summary.outputs(Outcome.FAILED) == 0
    assert len(tame.read_files()) < len(tame.expected_files())
    assert (await tame.run()).exit_code is ExitCode.OK
    assert tame.read_files() == tame.expected_files()


async def test_every_fault_at_once_still_ends_with_the_right_bytes(tame):
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
