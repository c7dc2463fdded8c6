"""
Test permanent faults: outcome, reason, exit code and number of attempts.

The next run without the fault must download the missing outputs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bulkdl.failure_policy import FAILURE_POLICIES, RetryAction
from bulkdl.maintenance.retry import select_retries
from bulkdl.maintenance.status import read_status
from bulkdl.models import Outcome, Reason
from bulkdl.selection import Selection
from bulkdl.settings.levels import Level
from bulkdl.simulator import SimulatedAccount
from bulkdl.sources.up42_common.auth import MAX_TOKENS
from bulkdl.sources.up42_jobs.models import Kind
from support.fault_runs import ARCHIVE_BYTES, SEGMENTED_SETTINGS, run_environment

pytestmark = pytest.mark.usefixtures("virtual_clock")

HALF = 2_000_000
ATTEMPTS = 3
CUT = {"fault": "cut", "at_byte": HALF, "nth": 1, "server": "storage"}


def storage(fault: str, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "server": "storage", **more}


def api(fault: str, *endpoints: str, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "server": "api", "endpoint": list(endpoints), **more}


@dataclass(frozen=True)
class Case:
    """
    A fault without end.

    Attributes:
        requests: Number of requests per faulty resource.
        max_requests: The maximum, if other outputs can cause more requests.
        kept_bytes: Bytes of each archive that the next run does not download again.
    """

    rules: tuple[Mapping[str, Any], ...]
    reason: Reason
    exit_code: int
    requests: int = ATTEMPTS
    kept_bytes: int = 0
    max_requests: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


SHORT_TIMEOUTS = {"headers_timeout": 0.5, "speed_time": 0.5}
WITH_AIOHTTP_RETRY = 2 * ATTEMPTS  # aiohttp repeats a request once if a reused connection was closed
MAX_RENEWALS = 4  # URL renewals that do not count as attempts

STORAGE = {
    "reset": Case((storage("reset"),), Reason.CONNECTION_LOST, 5, WITH_AIOHTTP_RETRY),
    "cut": Case((storage("cut", at_byte=0),), Reason.TRUNCATED, 5),
    "cut after the middle": Case(
        (CUT, storage("cut", at_byte=0, ranged=True)), Reason.TRUNCATED, 5, 1 + ATTEMPTS, kept_bytes=HALF
    ),
    "reset after the middle": Case(
        (CUT, storage("reset", ranged=True)),
        Reason.CONNECTION_LOST,
        5,
        1 + WITH_AIOHTTP_RETRY,
        kept_bytes=HALF,
    ),
    "stall": Case((storage("stall", at_byte=0),), Reason.STALLED, 5, settings=SHORT_TIMEOUTS),
    "slow headers": Case((storage("slow_headers"),), Reason.STALLED, 5, settings=SHORT_TIMEOUTS),
    "flip": Case((storage("flip"),), Reason.CHECKSUM_MISMATCH, 6),
    "flip without a digest": Case(
        (storage("flip", at_byte=2_999_000), storage("no_hash")), Reason.CORRUPT_CONTENT, 6
    ),
    "xml": Case((storage("xml_200"),), Reason.ERROR_PAGE, 6),
    "xml after the middle": Case(
        (CUT, storage("xml_200", ranged=True)), Reason.ERROR_PAGE, 6, 1 + ATTEMPTS, kept_bytes=HALF
    ),
    "html": Case((storage("html", status=200),), Reason.ERROR_PAGE, 6),
    "html 503": Case((storage("html"),), Reason.SERVER_ERROR, 5),
    "html 503 after the middle": Case(
        (CUT, storage("html", ranged=True)), Reason.SERVER_ERROR, 5, 1 + ATTEMPTS, kept_bytes=HALF
    ),
    "429": Case((storage("throttled"),), Reason.THROTTLED, 5),
    "416": Case(
        ({**CUT, "nth": [1, 3, 5]}, storage("unsatisfiable")), Reason.OBJECT_CHANGED, 5, 2 * ATTEMPTS
    ),
    "206 from elsewhere": Case(
        ({**CUT, "nth": [1, 3, 5]}, storage("wrong_offset")), Reason.UNEXPECTED_CONTENT, 6, 2 * ATTEMPTS
    ),
    "expired": Case((storage("url_expired"),), Reason.URL_EXPIRED, 5, MAX_RENEWALS + ATTEMPTS),
    "wrong signature": Case((storage("signature_mismatch"),), Reason.URL_EXPIRED, 5, MAX_RENEWALS + ATTEMPTS),
    "wrong signature after the middle": Case(
        (CUT, storage("signature_mismatch", ranged=True)),
        Reason.URL_EXPIRED,
        5,
        1 + MAX_RENEWALS + ATTEMPTS,
        kept_bytes=HALF,
    ),
    "405": Case((storage("status", status=405),), Reason.REJECTED, 3, 1),
}


@pytest.mark.parametrize("name", STORAGE)
async def test_run_with_a_permanent_storage_fault_fails_its_archives(tmp_path: Path, name: str) -> None:
    case = STORAGE[name]
    async with run_environment(tmp_path, retries=ATTEMPTS - 1) as environment:
        record = await environment.run(*case.rules, level=Level.TASK, **case.settings)
        assert environment.find_wrong_files() == []
        failed = [result for result in record.results if result.outcome is Outcome.FAILED]
        assert {(result.output.kind, result.reason) for result in failed} == {(Kind.ARCHIVE, case.reason)}
        assert len(failed) == 2
        assert record.exit_code == case.exit_code
        assert all(result.detail for result in failed)
        assert [len(requests) for requests in record.requests_by_object()] == [case.requests] * 2
        again = await environment.run()
        assert again.exit_code == 0
        assert environment.has_complete_output()
        assert again.downloaded_bytes == environment.needed_bytes - case.kept_bytes * 2


def ranged_rules(rules: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Apply *rules* to ranged requests only. The first connection is cut early to cause ranged requests."""
    return [{**CUT, "at_byte": 1_000_000}, *({**rule, "ranged": True} for rule in rules)]


# Other cases are similar, so these run only with the slow tests.
SLOW_CASES = ("wrong signature", "html 503", "429", "slow headers")
RANGED_CASES = [name for name, case in STORAGE.items() if len(case.rules) == 1]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW_CASES else ()) for name in RANGED_CASES],
)
async def test_run_with_a_permanent_fault_of_ranged_requests_fails_its_archives(
    tmp_path: Path, name: str
) -> None:
    """The bytes of the first connection are kept unless they are incorrect."""
    case = STORAGE[name]
    async with run_environment(tmp_path, **SEGMENTED_SETTINGS, retries=ATTEMPTS - 1) as environment:
        record = await environment.run(*ranged_rules(case.rules), level=Level.TASK, **case.settings)
        assert environment.find_wrong_files() == []
        assert record.failure_reasons() == {case.reason}
        assert record.exit_code == case.exit_code
        assert all(
            len(requests) <= 1 + SEGMENTED_SETTINGS["connections"] * case.requests
            for requests in record.requests_by_object()
        )
        again = await environment.run(**SEGMENTED_SETTINGS)
        assert again.exit_code == 0
        assert environment.has_complete_output()
        is_void = FAILURE_POLICIES[case.reason].action is RetryAction.RESTART
        assert again.downloaded_bytes == environment.needed_bytes - (
            0 if is_void else record.downloaded_bytes
        )
        assert is_void or record.downloaded_bytes >= 2 * 1_000_000


@pytest.mark.parametrize("name", [name for name in STORAGE if name.endswith("after the middle")])
async def test_run_with_a_permanent_fault_after_the_first_segment_keeps_its_bytes(
    tmp_path: Path, name: str
) -> None:
    case = STORAGE[name]
    async with run_environment(tmp_path, **SEGMENTED_SETTINGS, retries=ATTEMPTS - 1) as environment:
        record = await environment.run(*case.rules, level=Level.TASK, **case.settings)
        assert (record.failure_reasons(), record.exit_code) == ({case.reason}, case.exit_code)
        again = await environment.run(connections=1)
        assert again.exit_code == 0
        assert environment.has_complete_output()
        assert again.downloaded_bytes == environment.needed_bytes - record.downloaded_bytes


API = {
    "truncated JSON": Case((api("truncated_json", "results"),), Reason.INVALID_RESPONSE, 3),
    "a number for a URL": Case(
        (api("wrong_type", "results", field="data.url", value=7),), Reason.INVALID_RESPONSE, 3
    ),
    "an error in a 200": Case((api("error_in_200", "results"),), Reason.SERVER_ERROR, 5),
    "a refusal in a 200": Case((api("error_in_200", "results", code=403),), Reason.FORBIDDEN, 3, 1),
    "an error for data-json": Case((api("error_in_200", "geojson"),), Reason.SERVER_ERROR, 5),
    "an error for a picture": Case((api("error_in_200", "quicklook"),), Reason.SERVER_ERROR, 5),
    "429 in a 200 for a picture": Case((api("error_in_200", "quicklook", code=429),), Reason.THROTTLED, 5),
    "401 in a 200 for data-json": Case(
        (api("error_in_200", "geojson", code=401),), Reason.CREDENTIALS, 7, 3, max_requests=MAX_TOKENS
    ),
    "403 in a 200 for data-json": Case((api("error_in_200", "geojson", code=403),), Reason.FORBIDDEN, 3, 1),
    "data-json cut": Case((api("cut", "geojson"),), Reason.TRUNCATED, 5),
    "data-json truncated": Case((api("truncated_json", "geojson"),), Reason.CORRUPT_CONTENT, 6),
    "a picture cut": Case((api("cut", "quicklook", chunked=True),), Reason.TRUNCATED, 5),
    "a quicklook that stalls": Case((api("stall", "quicklook"),), Reason.STALLED, 5, settings=SHORT_TIMEOUTS),
    "a picture that never ends": Case(
        (api("endless", "quicklook", chunked=True),),
        Reason.TOO_LARGE,
        3,
        1,
        settings={"quicklook_max_size": 300_000},
    ),
    "data-json that never ends": Case(
        (api("endless", "geojson", chunked=True),),
        Reason.TOO_LARGE,
        3,
        1,
        settings={"geojson_max_size": 300_000},
    ),
    "data-json larger than allowed": Case(
        (api("latency", "geojson", seconds=0.0),), Reason.TOO_LARGE, 3, 1, settings={"geojson_max_size": 100}
    ),
    "503": Case((api("html", "geojson"),), Reason.SERVER_ERROR, 5),
    "429": Case((api("throttled", "geojson"),), Reason.THROTTLED, 5),
    "403": Case((api("status", "geojson", status=403),), Reason.FORBIDDEN, 3, 1),
    "422": Case((api("status", "geojson", status=422),), Reason.REJECTED, 3, 1),
    "reset": Case((api("reset", "geojson"),), Reason.CONNECTION_LOST, 5, WITH_AIOHTTP_RETRY),
    "401": Case((api("unauthorized", "geojson"),), Reason.CREDENTIALS, 7, 3, max_requests=MAX_TOKENS),
    "slow headers": Case((api("slow_headers", "geojson"),), Reason.STALLED, 5, settings=SHORT_TIMEOUTS),
}


@pytest.mark.parametrize("name", API)
async def test_run_with_a_permanent_api_fault_fails_with_its_reason(tmp_path: Path, name: str) -> None:
    case = API[name]
    async with run_environment(tmp_path, retries=ATTEMPTS - 1) as environment:
        record = await environment.run(*case.rules, **case.settings)
        assert environment.find_wrong_files() == []
        assert record.failure_reasons() == {case.reason}
        assert record.exit_code == case.exit_code
        (endpoint,) = {request.endpoint for request in record.requests if request.faults}
        asked: dict[str, int] = {}
        for request in record.requests_to(endpoint):
            asked[request.path] = asked.get(request.path, 0) + 1
        if endpoint != "results":  # the archive of the last task is requested again for the job
            assert min(asked.values()) == case.requests
            assert max(asked.values()) <= (case.max_requests or case.requests)
        assert (
            max(request.sent_bytes for request in record.requests_to(endpoint)) < 16 << 20
        )  # socket buffers hold most of them
        again = await environment.run()
        assert again.exit_code == 0
        assert environment.has_complete_output()


FOR_GOOD = {
    Reason.FORBIDDEN: (api("status", "geojson", status=403), {}),
    Reason.REJECTED: (api("status", "geojson", status=422), {}),
    Reason.CREDENTIALS: (api("unauthorized", "geojson", nth=[1, 2, 3]), {}),
    Reason.TOO_LARGE: (api("endless", "geojson", chunked=True), {"geojson_max_size": 300_000}),
}


@pytest.mark.parametrize("reason", FOR_GOOD)
async def test_permanent_failure_fails_one_output_only(tmp_path: Path, reason: Reason) -> None:
    """One worker: the outputs after the failed output are still downloaded."""
    rule, settings = FOR_GOOD[reason]
    async with run_environment(tmp_path, geojson_concurrency=1) as environment:
        record = await environment.run({"nth": 1, "per": "all", **rule}, **settings)
        assert record.failure_reasons() == {reason}
        assert len(environment.find_missing_outputs()) == 1
        assert environment.find_wrong_files() == []


@pytest.mark.parametrize("endpoint", ["geojson", "quicklook", "results"])
async def test_run_404_of_an_output_is_skipped_as_not_available(tmp_path: Path, endpoint: str) -> None:
    async with run_environment(tmp_path) as environment:
        record = await environment.run({"fault": "status", "status": 404, "endpoint": endpoint})
        assert record.exit_code == 0
        assert (Outcome.SKIPPED, Reason.NOT_AVAILABLE) in record.outcome_counts()
        assert not record.failure_reasons()
        asked = Counter(request.path for request in record.requests_to(endpoint))
        assert max(asked.values()) == 1
        assert record.summary.not_available == record.outcome_counts()[Outcome.SKIPPED, Reason.NOT_AVAILABLE]


@pytest.mark.parametrize("endpoint", ["geojson", "quicklook", "results", "object", "quicklooks"])
async def test_run_404_without_an_up42_document_is_retried(tmp_path: Path, endpoint: str) -> None:
    """An HTML page of a gateway or a 404 of the storage does not prove that the output does not exist."""
    fault = "status" if endpoint == "object" else "html"
    gateway = {"fault": fault, "status": 404, "endpoint": endpoint}
    async with run_environment(tmp_path) as environment:
        failed = await environment.run(gateway)
        assert failed.exit_code == 3
        assert failed.failure_reasons() == {Reason.INVALID_RESPONSE}
        assert failed.summary.not_available == 0
        assert (await environment.run({**gateway, "limit": 1})).exit_code == 0
        assert environment.has_complete_output()


@pytest.mark.parametrize("endpoint", ["geojson", "quicklook", "results", "quicklooks"])
@pytest.mark.parametrize("age", ["young", "old", "retry"])
async def test_run_output_that_was_not_available_is_requested_again(
    tmp_path: Path, endpoint: str, age: str
) -> None:
    """Each run requests it again while the job is recent. Later, only `bulkdl retry` does."""
    long = {"recheck_absent_for": "100000d" if age == "young" else "7d"}
    async with run_environment(tmp_path, **long) as environment:
        first = await environment.run({"fault": "status", "status": 404, "endpoint": endpoint})
        assert (first.exit_code, first.summary.not_available > 0) == (0, True)
        assert (await read_status(environment.root)).not_available == first.summary.not_available
        again = await environment.run({"fault": "status", "status": 404, "endpoint": endpoint})
        assert (again.exit_code, again.summary.not_available) == (0, first.summary.not_available)
        assert bool(again.requests_to(endpoint)) is (age == "young")
        if age == "retry":
            retried = await select_retries(environment.root, [Selection()])
            environment.simulator.faults = None
            async with environment.downloader() as downloader:
                assert (await downloader.run(retried.selections)).exit_code == 0
        elif age == "young":
            assert (await environment.run()).summary.not_available == 0
        if age == "old":
            assert environment.find_missing_outputs()
        else:
            assert environment.has_complete_output()
            assert (await read_status(environment.root)).not_available == 0


@pytest.mark.parametrize("endpoint", ["geojson", "quicklook", "results"])
async def test_run_404_document_with_status_200_is_skipped_as_not_available(
    tmp_path: Path, endpoint: str
) -> None:
    async with run_environment(tmp_path) as environment:
        record = await environment.run(api("error_in_200", endpoint, code=404))
        assert record.exit_code == 0
        assert (Outcome.SKIPPED, Reason.NOT_AVAILABLE) in record.outcome_counts()
        assert not record.failure_reasons()


PROBLEMS = {
    "tasks": (api("truncated_json", "tasks"), Reason.INVALID_RESPONSE, 3),
    "tasks refused": (api("status", "tasks", status=400), Reason.REJECTED, 3),
    "jobs": (api("wrong_type", "jobs"), Reason.INVALID_RESPONSE, 3),
    "jobs 503": (api("html", "jobs"), Reason.SERVER_ERROR, 5),
    "jobs 403": (api("status", "jobs", status=403), Reason.FORBIDDEN, 3),
    "jobs 404": (api("status", "jobs", status=404), Reason.NOT_FOUND, 4),
    "token 401": (api("unauthorized", "token"), Reason.CREDENTIALS, 7),
    "token 503": (api("html", "token"), Reason.SERVER_ERROR, 5),
    "jobs too many bytes": (api("endless", "jobs", chunked=True), Reason.TOO_LARGE, 3),
    "401 whatever the token": (api("unauthorized", "jobs"), Reason.CREDENTIALS, 7),
}


@pytest.mark.parametrize("name", PROBLEMS)
async def test_run_job_that_cannot_be_listed_is_reported(tmp_path: Path, name: str) -> None:
    rule, reason, exit_code = PROBLEMS[name]
    async with run_environment(
        tmp_path, retries=ATTEMPTS - 1, api_response_max_size=1_000_000
    ) as environment:
        record = await environment.run(rule)
        assert record.exit_code == exit_code
        assert {problem.reason for problem in record.summary.problems} == {reason}
        assert all(problem.detail for problem in record.summary.problems)
        assert len(record.requests) < 30
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


@pytest.mark.parametrize("more", [[], [{"fault": "no_length", "endpoint": "quicklooks"}]])
async def test_run_list_of_200_mib_is_rejected_before_its_end(
    tmp_path: Path, more: list[dict[str, Any]]
) -> None:
    async with run_environment(tmp_path, api_response_max_size=4 << 20) as environment:
        record = await environment.run({"fault": "huge_list"}, *more)
        assert record.exit_code == 3
        assert record.failure_reasons() == {Reason.TOO_LARGE}
        assert record.outcome_counts(Kind.ARCHIVE).total() == 3
        assert sum(request.sent_bytes for request in record.requests_to("quicklooks")) < 2 * (12 << 20)
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


async def test_run_with_repeated_pages_ends(tmp_path: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=12, archive_bytes=3_000)
    async with run_environment(tmp_path, account, simulator_options={"page_size": 5}) as environment:
        record = await environment.run({"fault": "repeat_pages", "overlap": 2})
        assert record.exit_code == 0
        assert record.summary.containers.seen == 12
        search = 8  # pages 1, 2, 4 and so on, until three pages contain no new job
        assert len(record.requests_to("jobs")) <= search + 4 + 3 + 1
        assert environment.has_complete_output()


@pytest.mark.parametrize("nth", range(1, 8))
async def test_run_job_deleted_while_the_list_is_read_hides_no_other_job(tmp_path: Path, nth: int) -> None:
    account = SimulatedAccount(projects=1, jobs=22, archive_bytes=2_000)
    async with run_environment(tmp_path, account, simulator_options={"page_size": 5}) as environment:
        record = await environment.run({"fault": "delete_jobs", "nth": nth, "per": "all"})
        assert record.exit_code in (0, 4), "the deleted job itself may have been listed"
        assert len(environment.simulator.account.deleted) == 1
        assert environment.find_missing_outputs() == []


async def test_run_archive_with_progress_in_each_attempt_is_not_given_up(tmp_path: Path) -> None:
    """Twelve cuts with two permitted attempts: each attempt received bytes, so no attempt counts."""
    async with run_environment(tmp_path, retries=1) as environment:
        record = await environment.run(storage("cut", at_byte=ARCHIVE_BYTES // 13, first=12))
        assert record.exit_code == 0
        assert record.downloaded_bytes == environment.needed_bytes
        assert environment.has_complete_output()
