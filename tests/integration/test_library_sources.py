"""The library with the credentials of projects and accounts: one run of two sources, on real sockets."""

from collections import Counter

import pytest
from pydantic import SecretStr

from bulkdl import ConfigError, Downloader, ExitCode, Outcome, Reason, Selection, Settings
from bulkdl.settings import AccountCredentials, CredentialSet
from bulkdl.simulator import Faults
from support.both_sources import both_sources


@pytest.fixture
async def both(tmp_path):
    async with both_sources(tmp_path) as environment:
        yield environment


def downloader(both, **settings):
    username, password = both.simulator.account_credentials
    projects = {project.id: SecretStr(project.api_key) for project in both.simulator.projects}
    credentials = CredentialSet(
        projects,
        project_ids=tuple(projects),
        accounts=(AccountCredentials("team", username, SecretStr(password)),),
    )
    quick = {"rate": 0, "retry_base_delay": 0, "retry_max_delay": 0}
    chosen = Settings(api_url=both.simulator.api_url, output=both.output, **{**quick, **settings})
    return Downloader(chosen, credentials=credentials)


async def test_run_without_a_selection_downloads_both_sources(both):
    async with downloader(both) as opened:
        plan = await opened.plan()
        async with opened.stream() as results:
            found = Counter([result.output.container.source async for result in results])
    assert set(found) == {"jobs", "storage"}
    assert plan.to_download.total() == opened.summary.outputs() == found.total()
    assert set(opened.summary.sources) == set(plan.summary.sources) == {"jobs", "storage"}
    parts = [part.containers.selected for part in opened.summary.sources.values()]
    assert all(parts)
    assert opened.summary.containers.selected == sum(parts)
    assert both.missing_files() == both.missing_job_files() == []


async def test_run_with_a_selection_is_restricted_to_its_source(both):
    async with downloader(both) as opened:
        summary = await opened.run(Selection.of(Settings(only=["preview"]), source="storage"))
        assert {kind for kind, *_ in summary.counts} == {"preview"}
        assert list(summary.sources) == ["storage"]
        assert not both.count_requests()["jobs"]
        selections = [
            Selection.of(Settings(only=["geojson"]), source="jobs"),
            Selection.of(Settings(only=["metadata"]), source="storage"),
        ]
        summary = await opened.run(selections)
    assert {kind for kind, *_ in summary.counts} == {"geojson", "metadata"}


async def test_plan_with_a_status_of_the_selection_waits_for_the_list_of_jobs(both):
    slow = {"fault": "latency", "seconds": 0.5, "endpoint": "processing_jobs"}
    both.simulator.faults = Faults.from_rules(slow)
    selection = Selection.of(Settings(status=["SUCCESSFUL"]), source="storage")
    async with downloader(both) as opened:
        plan = await opened.plan(selection)
    # The collection of a job does not contain the status of the job.
    assert plan.summary.sources["storage"].containers.selected > 0


@pytest.mark.parametrize(
    "selections",
    [[], [Selection(), Selection()], Selection.of(Settings(), source="storage")],
    ids=["none", "two of a source", "another source"],
)
async def test_run_with_unsuitable_selections_raises_config_error(both, selections):
    async with downloader(both, source="jobs") as opened:
        with pytest.raises(ConfigError):
            await opened.run(selections)
    assert both.count_requests() == {}


async def test_failures_of_one_source_do_not_stop_the_other_source(both):
    rule = {"fault": "status", "status": 500, "endpoint": "download_url"}
    both.simulator.faults = Faults.from_rules(rule)
    async with downloader(both, retries=0) as opened:
        summary = await opened.run()
    assert both.missing_job_files() == []
    assert summary.sources["jobs"].exit_code is ExitCode.OK
    assert summary.sources["storage"].exit_code is summary.exit_code is ExitCode.TEMPORARY
    assert {row.output.container.source for row in summary.failures} == {"storage"}


async def test_max_transfer_of_a_run_is_the_sum_of_both_sources(both):
    async with downloader(both, max_transfer=1, archive_concurrency=1) as opened:
        summary = await opened.run()
    assert summary.exit_code is ExitCode.MAX_TRANSFER
    assert {part.exit_code for part in summary.sources.values()} == {ExitCode.MAX_TRANSFER}
    async with downloader(both) as opened:
        assert (await opened.run()).exit_code is ExitCode.OK
    assert both.missing_files() == both.missing_job_files() == []


async def test_stop_ends_the_enumerations_of_both_sources(both):
    async with downloader(both) as opened, opened.stream() as results:
        first = await anext(results)
        opened.stop()
        rest = [result async for result in results]
    assert opened.summary.stopped_by is ExitCode.INTERRUPTED
    assert all(
        result.outcome is not Outcome.FAILED and result.reason is not Reason.INTERNAL
        for result in (first, *rest)
    )
    async with downloader(both) as opened:
        assert (await opened.run()).exit_code is ExitCode.OK
    assert both.missing_files() == both.missing_job_files() == []
