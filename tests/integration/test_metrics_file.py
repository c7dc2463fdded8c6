from dataclasses import replace

import click
import pytest
from pydantic import SecretStr

from bulkdl.cli.context import run_downloader
from bulkdl.errors import ConfigError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.settings import CredentialSet
from bulkdl.simulator import Faults, Simulator
from bulkdl.sources.up42_jobs.models import Kind
from support.live_http import ACCOUNT, EventRecorder, create_run_request, samples, value


async def test_metrics_file_matches_the_summary(tmp_path):
    path = tmp_path / "bulkdl.prom"
    # One GeoJSON file fails, another succeeds at the second attempt, and one response is a 429.
    faults = Faults.from_rules(
        {"fault": "status", "status": 400, "endpoint": "geojson", "level": "job", "limit": 1},
        {"fault": "cut", "endpoint": "geojson", "level": "task", "nth": 1, "limit": 1},
        {"fault": "throttled", "retry_after": 0, "endpoint": "tasks", "nth": 1, "limit": 2},
    )
    async with Simulator(ACCOUNT, faults=faults) as simulator:
        request = create_run_request(simulator, tmp_path, metrics_file=path)
        summary, _ = await run_downloader(
            request, lambda downloader: downloader.run(request.selections), EventRecorder()
        )
        # A plan does not lock the directory, so it does not write the file.
        again, _ = await run_downloader(
            request, lambda downloader: downloader.plan(request.selections), EventRecorder()
        )
    found = samples(path.read_text())
    counted = {
        (labels["kind"], labels["outcome"], labels["reason"]): count
        for (name, pairs), count in found.items()
        if name == "bulkdl_outputs_total" and (labels := dict(pairs))
    }
    assert counted == {tuple(map(str, key)): count.outputs for key, count in summary.counts.items()}
    assert (
        sum(value(found, "bytes_total", source="jobs", kind=kind) for kind in Kind)
        == summary.downloaded_bytes
    )
    assert value(found, "retries_total", reason="truncated") == 1
    assert value(found, "throttles_total") == 2
    assert (
        value(found, "containers_total", source="jobs", state="unfinished") == summary.containers.unfinished
    )
    for kind in Kind:
        assert value(found, "in_flight", source="jobs", kind=kind) == 0
        assert value(found, "outputs_open", source="jobs", kind=kind) == 0
        assert value(found, "queue_depth", queue=kind) == 0
    assert value(found, "last_run_exit_code") == summary.exit_code == 3
    assert again.containers.seen == summary.containers.seen
    assert samples(path.read_text()) == found


async def test_rejected_credentials_are_counted_as_a_problem(tmp_path):
    path = tmp_path / "bulkdl.prom"
    async with Simulator(ACCOUNT) as simulator:
        request = create_run_request(simulator, tmp_path, metrics_file=path)
        keys = {project.id: SecretStr("Wrong123.key") for project in simulator.projects}
        request = replace(request, credentials=CredentialSet(by_project=keys, project_ids=tuple(keys)))
        await run_downloader(request, lambda downloader: downloader.run(request.selections), EventRecorder())
    found = samples(path.read_text())
    assert value(found, "problems_total", source="jobs", reason="credentials") == 1
    assert value(found, "last_run_exit_code") == ExitCode.CREDENTIALS


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("a bug"), ExitCode.BUG),
        (ConfigError("--x", "is wrong"), ExitCode.USAGE),
        (click.exceptions.Exit(130), ExitCode.INTERRUPTED),
    ],
)
async def test_metrics_file_contains_the_exit_code_of_the_process(tmp_path, error, code):
    path = tmp_path / "bulkdl.prom"

    async def work(downloader: Downloader) -> None:
        await downloader.run()
        raise error

    async with Simulator(ACCOUNT) as simulator:
        with pytest.raises(type(error)):
            await run_downloader(
                create_run_request(simulator, tmp_path, metrics_file=path), work, EventRecorder()
            )
    assert value(samples(path.read_text()), "last_run_exit_code") == code


async def test_present_outputs_are_counted_as_skipped(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        request = create_run_request(simulator, tmp_path, metrics_file=tmp_path / "bulkdl.prom")
        for _ in range(2):
            await run_downloader(
                request, lambda downloader: downloader.run(request.selections), EventRecorder()
            )
        expected_count = sum(1 for expected in simulator.expected_outputs() if expected.kind == Kind.ARCHIVE)
    found = samples((tmp_path / "bulkdl.prom").read_text())
    labels = {"source": "jobs", "kind": "archive"}
    skipped = value(found, "outputs_total", **labels, outcome="skipped", reason="up_to_date")
    assert skipped == expected_count
    assert value(found, "outputs_planned_total", **labels) == 0
    assert value(found, "bytes_total", **labels) == 0
