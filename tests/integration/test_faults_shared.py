"""Test failures that concern all workers: cooldowns, tokens, unreachable hosts and redirects."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bulkdl.models import Outcome, Reason
from bulkdl.settings.levels import Level
from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_jobs.models import Kind
from support.fault_runs import ACCOUNT, SEGMENTED_SETTINGS, RunEnvironment, RunRecord, run_environment
from support.virtual_time import VirtualClock

MANY = SimulatedAccount(projects=1, jobs=14, archive_bytes=5_000)
HALF = 2_000_000


def gap_after_the_first(record: RunRecord, fault: str, server: str) -> float:
    """Return the seconds between a response with *fault* and the next request to the same host."""
    requests = [(at, fault in faults) for at, call, faults in record.faults.calls if call.server == server]
    first_fault = next(number for number, (_, met) in enumerate(requests) if met)
    # Requests in progress arrive immediately. The cooldown is the longest gap after them.
    later = [at for at, _ in requests[first_fault:]]
    return max(after - before for before, after in pairwise(later))


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize(("server", "endpoint"), [("api", "geojson"), ("storage", "object")])
async def test_run_429_pauses_all_requests_to_its_host(tmp_path: Path, server: str, endpoint: str) -> None:
    """After a 429, no worker sends a request to that host for the requested time (capped here)."""
    rule = {"fault": "throttled", "server": server, "endpoint": endpoint, "nth": 4, "per": "all"}
    async with run_environment(tmp_path, MANY, archive_concurrency=4, retry_after_max=1.0) as environment:
        record = await environment.run(rule)
        assert record.exit_code == 0
        assert environment.has_complete_output()
        assert gap_after_the_first(record, "throttled", server) >= 0.999


async def test_run_401_renews_the_token_once(tmp_path: Path) -> None:
    rule = {"fault": "revoke_tokens", "endpoint": "geojson", "nth": 3, "per": "all"}
    async with run_environment(
        tmp_path, MANY, geojson_concurrency=16, quicklook_concurrency=16, archive_concurrency=8
    ) as environment:
        record = await environment.run(rule)
        assert environment.has_complete_output()
        assert record.exit_code == 0
        assert len(record.requests_to("token")) == 2
        assert sum(request.status == 401 for request in record.requests) >= 1


async def test_run_with_a_new_token_that_is_revoked_by_its_first_request_completes(tmp_path: Path) -> None:
    rule = {"fault": "revoke_tokens", "endpoint": "geojson", "nth": [3, 4], "per": "all"}
    async with run_environment(tmp_path, MANY, geojson_concurrency=1) as environment:
        record = await environment.run(rule)
        assert record.exit_code == 0
        assert environment.has_complete_output()
        geojson = [request for request in record.requests if request.endpoint == "geojson"]
        assert [request.status for request in geojson[2:5]] == [401, 401, 200]
        assert len({request.path for request in geojson[2:5]}) == 1


async def test_run_with_token_lifetime_of_one_second_completes(
    tmp_path: Path, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A token is renewed before it expires, even if it lives only ten times as long as a request takes.

    The margin is a tenth of a second. A busy machine can delay a request by more than that, so both clocks
    are virtual.
    """
    monkeypatch.setitem(TokenSource.__init__.__kwdefaults__, "clock", virtual_clock.monotonic)
    started_s = virtual_clock.monotonic()
    options = {"token_lifetime_s": 1, "latency_s": 0.1, "token_clock": virtual_clock.monotonic}
    async with run_environment(
        tmp_path,
        MANY,
        simulator_options=options,
        list_concurrency=1,
        archive_concurrency=1,
        geojson_concurrency=1,
        quicklook_concurrency=1,
    ) as environment:
        record = await environment.run()
        assert record.exit_code == 0
        assert environment.has_complete_output()
        duration_s = virtual_clock.monotonic() - started_s
        assert 2 < len(record.requests_to("token")) <= duration_s + 2
        assert not [request for request in record.requests if request.status == 401]


@pytest.mark.parametrize("way", [{}, SEGMENTED_SETTINGS])
async def test_run_with_url_lifetime_of_one_second_completes(tmp_path: Path, way: Mapping[str, Any]) -> None:
    """A safety margin longer than the lifetime of a URL must not make every URL unusable."""
    async with run_environment(tmp_path, simulator_options={"url_lifetime_s": 1}, **way) as environment:
        record = await environment.run({"fault": "cut", "at_byte": HALF, "nth": 1, "server": "storage"})
        assert record.exit_code == 0
        assert environment.has_complete_output()
        assert record.downloaded_bytes == environment.needed_bytes
        assert len(record.requests_to("results")) <= 8


@pytest.mark.parametrize(("way", "ranged"), [({}, {}), (SEGMENTED_SETTINGS, {"ranged": True})])
async def test_run_expired_urls_do_not_count_as_attempts(
    tmp_path: Path, way: Mapping[str, Any], ranged: Mapping[str, Any]
) -> None:
    """With one permitted attempt and four rejected URLs, the archive is still downloaded."""
    async with run_environment(tmp_path, retries=0, **way) as environment:
        record = await environment.run({"fault": "url_expired", "first": 4, "server": "storage", **ranged})
        assert record.exit_code == 0
        assert environment.has_complete_output()


async def test_run_with_urls_expired_between_two_attempts_completes(tmp_path: Path) -> None:
    async with run_environment(tmp_path, archive_concurrency=1) as environment:
        record = await environment.run(
            {"fault": "cut", "at_byte": HALF, "nth": 1, "server": "storage"},
            {"fault": "expire_urls", "nth": 2, "limit": 1},
            level=Level.TASK,
        )
        assert sorted(record.requested_offsets()) == [[0, HALF], [0, HALF, HALF]]
        assert record.downloaded_bytes == environment.needed_bytes
        assert len(record.requests_to("results")) == 3


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize("server", ["api", "storage"])
async def test_run_with_a_host_that_is_temporarily_unreachable_completes(tmp_path: Path, server: str) -> None:
    async with run_environment(
        tmp_path, retries=199, retry_base_delay=0.02, retry_max_delay=0.02
    ) as environment:
        record = await environment.run(
            {"fault": "down", "server": server, "nth": 4, "per": "all", "seconds": 0.3}
        )
        if server == "storage":
            record = await environment.run(
                {"fault": "down", "server": server, "nth": 2, "per": "all", "seconds": 0.3}
            )
        assert record.exit_code == 0
        assert environment.has_complete_output()


async def test_run_with_an_unreachable_host_fails(tmp_path: Path) -> None:
    async with run_environment(tmp_path, retries=2) as environment:
        record = await environment.run({"fault": "down", "server": "storage", "seconds": 3600.0})
        assert record.exit_code == 5
        assert Reason.UNREACHABLE in record.failure_reasons()
        assert environment.find_wrong_files() == []


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_run_redirect_to_another_host_sends_no_token(tmp_path: Path, status: int) -> None:
    async with Simulator(ACCOUNT) as stranger, run_environment(tmp_path, retries=1) as environment:
        elsewhere = stranger.api_url.replace("127.0.0.1", "localhost") + "/projects/x/jobs"
        await environment.run(
            {
                "fault": "redirect",
                "location": elsewhere,
                "status": status,
                "endpoint": ["geojson", "quicklook"],
            },
            {"fault": "redirect", "location": elsewhere, "status": status, "server": "storage"},
        )
        assert len(stranger.requests) >= 3
        for request in stranger.requests:
            assert "Authorization" not in request.headers
        assert environment.find_wrong_files() == []
        record = await environment.run()
        assert record.exit_code == 0
        assert environment.has_complete_output()


async def test_run_sends_no_token_to_the_storage(tmp_path: Path) -> None:
    async with run_environment(tmp_path, simulator_options={"strict_storage_auth": True}) as environment:
        record = await environment.run({"fault": "cut", "nth": 1, "server": "storage"})
        assert record.exit_code == 0
        assert all("Authorization" not in request.headers for request in record.requests_to("object"))
        assert all(
            "Authorization" in request.headers for request in record.requests if request.server == "api"
        )


@pytest.mark.usefixtures("virtual_clock")
@pytest.mark.parametrize("fault", [{"fault": "cut"}, {"fault": "stall"}, {"fault": "cut", "chunked": True}])
async def test_run_truncated_large_quicklook_is_restarted(tmp_path: Path, fault: dict[str, Any]) -> None:
    """It is larger than a block, so bytes were already written. The API does not support ranges."""
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_000, quicklook_bytes=3_000_000)
    async with run_environment(tmp_path, account, speed_time=0.2) as environment:
        record = await environment.run({**fault, "nth": [1, 2], "endpoint": "quicklook"})
        assert record.exit_code == 0
        assert environment.has_complete_output()
        assert record.outcome_counts(Kind.QUICKLOOK)[Outcome.COMPLETED, Reason.DOWNLOADED] == len(
            {request.path for request in record.requests_to("quicklook")}
        )


async def test_run_with_one_failed_output_completes_the_other_outputs(tmp_path: Path) -> None:
    async with run_environment(tmp_path, MANY, retries=1) as environment:
        job = MANY.job(0, 0)
        record = await environment.run({"fault": "flip", "server": "storage", "path": f"*{job.id}*"})
        assert record.exit_code == 6
        assert {
            result.output.container.id for result in record.results if result.outcome is Outcome.FAILED
        } == {job.id}
        assert len(environment.find_missing_outputs()) == len(job.tasks) + 1
        assert environment.find_wrong_files() == []


@pytest.mark.parametrize("way", [{}, SEGMENTED_SETTINGS])
async def test_run_with_many_random_faults_completes(tmp_path: Path, way: Mapping[str, Any]) -> None:
    """Many faults at once, with a seed: correct files, and few bytes are downloaded twice."""
    account = SimulatedAccount(projects=2, jobs=24, archive_bytes=(2_000, 1_500_000))
    async with run_environment(tmp_path, account, **way) as environment:
        chance = {"per": "all", "probability": 0.05}
        record = await environment.run(
            {"fault": "cut", "at_fraction": 0.6, "server": "storage", **chance},
            {"fault": "reset", **chance},
            {"fault": "html", **chance},
            {"fault": "throttled", "retry_after": "past", **chance},
            {"fault": "url_expired", **chance},
            {"fault": "truncated_json", **chance},
            {"fault": "revoke_tokens", "per": "all", "nth": 30},
            seed=11,
            retries=19,
        )
        assert not record.summary.problems
        assert not record.failure_reasons(), record.summary.failures
        assert environment.has_complete_output()
        assert record.exit_code == 0
        assert record.downloaded_bytes <= 1.02 * environment.needed_bytes
        assert all(record.faults.applied_counts.values())


async def left_behind(environment: RunEnvironment) -> list[str]:
    return sorted(path.name for path in (environment.root / ".bulkdl" / "parts").iterdir())


@pytest.mark.parametrize("way", [{}, SEGMENTED_SETTINGS])
async def test_run_leaves_no_partial_files(tmp_path: Path, way: Mapping[str, Any]) -> None:
    async with run_environment(tmp_path, **way) as environment:
        await environment.run(
            {"fault": "cut", "at_byte": HALF, "nth": 1, "server": "storage"},
            {"fault": "flip", "nth": 2, "server": "storage"},
            {"fault": "cut", "endpoint": "quicklook", "nth": 1},
        )
        assert environment.has_complete_output()
        assert await left_behind(environment) == []
