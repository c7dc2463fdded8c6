import asyncio

import aiohttp
import pytest

from bulkdl.cli.context import run_downloader
from bulkdl.errors import ConfigError
from bulkdl.simulator import Faults, Simulator
from bulkdl.telemetry.events import Event, RequestEnded, TransferAdvanced, TransferEnded
from support.live_http import (
    ACCOUNT,
    FOREVER_S,
    STALL_FIRST_REQUEST,
    EventRecorder,
    SignallingFaults,
    create_run_request,
    run_with_status_page,
    value,
)


def is_half_way(event: Event) -> bool:
    return isinstance(event, TransferAdvanced) and event.offset >= 1_500_000


async def test_endpoints_during_a_run_report_health_metrics_and_progress(tmp_path):
    async with (
        Simulator(ACCOUNT, faults=Faults.from_rules(STALL_FIRST_REQUEST)) as simulator,
        run_with_status_page(simulator, tmp_path, archive_concurrency=1) as run,
    ):
        await run.wait_for_event(is_half_way)
        await run.wait_for_event(lambda event: isinstance(event, TransferEnded))
        assert await run.json("/healthz") == (200, {"alive": True})
        assert await run.json("/readyz") == (200, {"ready": True, "reasons": []})
        metrics = await run.metrics()
        assert value(metrics, "in_flight", source="jobs", kind="archive") == 1
        assert value(metrics, "bytes_total", source="jobs", kind="archive") >= 1_500_000
        assert value(metrics, "requests_total", source="jobs", endpoint="token", status="2xx") == 1
        assert value(metrics, "request_duration_seconds_count", source="jobs", endpoint="storage") == 1
        assert value(metrics, "disk_free_bytes") > 0
        _, status = await run.json("/status.json")
        while not status["in_flight"]:  # a download of this size is listed after two seconds
            await asyncio.sleep(0.1)
            _, status = await run.json("/status.json")
        transfer = status["in_flight"][0]
        assert transfer["kind"] == "archive"
        assert 1_500_000 <= transfer["offset_bytes"] < transfer["total_bytes"]
        assert status["run_id"]
        await simulator.take_down("storage", 0.01)  # the stalled connection fails and the run resumes
        simulator.faults = None
        summary = await run.summary()
    assert summary.exit_code == 0


async def test_readyz_before_authentication_is_503(tmp_path):
    faults = SignallingFaults.create(
        {"fault": "latency", "seconds": FOREVER_S, "endpoint": "token", "nth": 1}
    )
    async with (
        Simulator(ACCOUNT, faults=faults) as simulator,
        run_with_status_page(simulator, tmp_path) as run,
    ):
        await faults.applied.wait()
        assert (await run.json("/healthz"))[0] == 200
        assert await run.json("/readyz") == (503, {"ready": False, "reasons": ["not authenticated yet"]})
        await simulator.take_down("api", 0.01)
        await run.wait_for_event(lambda event: isinstance(event, RequestEnded) and event.status == 200)
        assert (await run.summary()).exit_code == 0


async def test_readyz_after_removal_of_the_output_directory_is_503(tmp_path):
    async with (
        Simulator(ACCOUNT, faults=Faults.from_rules(STALL_FIRST_REQUEST)) as simulator,
        run_with_status_page(simulator, tmp_path, archive_concurrency=1) as run,
    ):
        await run.wait_for_event(is_half_way)
        (tmp_path / "out" / ".bulkdl").rename(tmp_path / "elsewhere")
        status, document = await run.json("/readyz")
        assert status == 503
        assert document["reasons"] == ["the output directory does not exist"]
        (tmp_path / "elsewhere").rename(tmp_path / "out" / ".bulkdl")


async def test_port_is_closed_after_the_run(tmp_path):
    async with Simulator(ACCOUNT) as simulator, run_with_status_page(simulator, tmp_path) as run:
        await run.summary()
        with pytest.raises(aiohttp.ClientConnectionError):
            await run.json("/healthz")


async def test_used_port_is_a_config_error_before_the_run(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        port = int(simulator.api_url.rpartition(":")[2])
        order = create_run_request(simulator, tmp_path, listen=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match="use a free address"):
            await run_downloader(order, lambda downloader: downloader.run(order.selection), EventRecorder())
        assert not simulator.requests
    assert not (tmp_path / "out").exists()
