"""What a service adds to the pages and reporters of its runs: several runs, one after another."""

from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from bulkdl.models import Outcome, Reason, Result
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.telemetry.dashboard import RunStatus
from bulkdl.telemetry.events import ProblemFound, RequestEnded, RunFinished, RunStarted, TransferEnded
from bulkdl.telemetry.health import DiskProbe, Readiness
from bulkdl.telemetry.metrics import Metrics
from bulkdl.telemetry.textfile import TextfileWriter
from bulkdl.telemetry.web import ServiceViews, Views, create_app
from support.event_samples import ARCHIVE, AT

FAILED = TransferEnded(Result(ARCHIVE, Outcome.FAILED, Reason.STALLED))


@pytest.fixture
async def client(tmp_path):
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    disk = DiskProbe(tmp_path, tmp_path)
    metrics = Metrics("1", SPEC.kind_names, lambda: 0.0)
    status = RunStatus("1", SPEC.kind_names, lambda: 0.0, lambda: datetime.now(UTC))
    service = ServiceViews(lambda: {"state": "waiting"}, {"/events": echo}, max_body_bytes=1000)
    async with TestClient(
        TestServer(create_app(Views(status, metrics, Readiness(), disk, service)))
    ) as client:
        yield client


async def test_pages_show_the_service_and_accept_bounded_bodies(client):
    async with client.get("/status.json") as response:
        assert (await response.json())["service"] == {"state": "waiting"}
    async with client.post("/events", data=b"x" * 1000) as response:
        assert await response.read() == b"x" * 1000
        assert response.headers["Server"] == "bulkdl"
        assert response.headers["Cache-Control"] == "no-store"
    async with client.post("/events", data=b"x" * 1001) as response:
        assert response.status == 413
    for path in ("/", "/metrics", "/status.json"):
        async with client.post(path) as response:
            assert response.status == 405


def test_run_status_starts_again_with_the_kinds_of_each_run():
    status = RunStatus("1", SPEC.kind_names, lambda: 0.0, lambda: AT)
    status.report(RunStarted("r1", AT, ("jobs",)))
    status.report(FAILED)
    status.report(RunFinished(AT, 3))
    assert status.document(None)["failures_total"] == 1
    status.report(RunStarted("r2", AT, ("jobs", "storage")))
    document = status.document(None)
    assert (document["run_id"], document["state"], document["exit_code"]) == ("r2", "listing", None)
    assert (document["failures"], document["failures_total"]) == ([], 0)
    assert {kind["source"] for kind in document["kinds"]} == {"jobs", "storage"}


def test_metrics_name_one_run_and_count_all_of_them():
    metrics = Metrics("1", SPEC.kind_names, lambda: 0.0)
    for run_id in ("r1", "r2"):
        metrics.report(RunStarted(run_id, AT, ("jobs", "storage")))
        metrics.report(FAILED)
        metrics.report(RunFinished(AT, 3))
    families = {
        family.name: family for family in text_string_to_metric_families(metrics.render_textfile().decode())
    }
    assert [sample.labels["run_id"] for sample in families["bulkdl_run_info"].samples] == ["r2"]
    assert [sample.value for sample in families["bulkdl_outputs"].samples] == [2]
    kinds = {sample.labels["kind"] for sample in families["bulkdl_outputs_open"].samples}
    assert {"archive", "original"} <= kinds


def test_readiness_ends_with_a_run_whose_credentials_are_rejected():
    readiness = Readiness()
    succeeded = RequestEnded("jobs", 200, 0.1, "jobs")
    readiness.report(succeeded)
    assert readiness.reasons(None) == []
    readiness.report(ProblemFound(Reason.CREDENTIALS, "project p", "401 wrong key", "jobs"))
    readiness.report(RunFinished(AT, 7))
    assert readiness.reasons(None) == ["authentication failed: 401 wrong key"]
    readiness.report(succeeded)
    readiness.report(RunFinished(AT, 3))
    assert readiness.reasons(None) == []


async def test_textfile_second_start_has_no_effect(tmp_path):
    async with TextfileWriter(tmp_path / "x.prom", lambda: b"") as writer:
        writer.start()
        timer = writer._timer
        writer.start()
        assert writer._timer is timer
