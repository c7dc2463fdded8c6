"""
Test complete runs with each storage fault: correct files, few bytes and the expected requests.

Each fault is tested with one connection, with several connections, and for a ranged request.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bulkdl.models import Outcome, Reason
from support.fault_runs import ARCHIVE_BYTES, SEGMENTED_SETTINGS, RunRecord, run_environment

pytestmark = pytest.mark.usefixtures("virtual_clock")

ONCE = {"nth": 1, "server": "storage"}
CUT = {"fault": "cut", "at_byte": 2_000_000, **ONCE}
HALF = 2_000_000


@dataclass(frozen=True)
class Case:
    """
    Faults of each of the two objects, and the expected result.

    Attributes:
        offsets: Requested start offsets, per request.
        times: Bytes moved over bytes needed, at most.
        signed: Number of additional signed URLs.
    """

    rules: tuple[Mapping[str, Any], ...]
    offsets: tuple[int, ...] | None
    times: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    signed: int = 0


SURVIVED = {
    "three cuts": Case(
        ({"fault": "cut", "at_byte": 700_000, "first": 3, "server": "storage"},),
        (0, 700_000, 1_400_000, 2_100_000),
        1.0,
    ),
    "three cuts of bodies that could have been longer": Case(
        ({"fault": "cut", "at_byte": 700_000, "first": 3, "chunked": True, "server": "storage"},),
        (0, 700_000, 1_400_000, 2_100_000),
        1.0,
    ),
    "three cuts without progress in between": Case(
        (CUT, {"fault": "cut", "at_byte": 0, "nth": [2, 3], "server": "storage"}), (0, HALF, HALF, HALF), 1.0
    ),
    "a reset in the body": Case(({**CUT, "reset": True},), None, 1.0),
    "a reset before any header": Case(({"fault": "reset", **ONCE},), (0, 0), 1.0),
    "a body that stalls": Case(
        ({"fault": "stall", "at_byte": HALF, **ONCE},), (0, HALF), 1.0, {"speed_time": 0.2}
    ),
    "a body that drips": Case(
        ({"fault": "drip", "bytes_per_s": 2_000, **ONCE},),
        None,
        1.01,
        {"speed_time": 0.2, "speed_limit": 100_000},
    ),
    "headers that drip": Case(({"fault": "slow_headers", **ONCE},), (0, 0), 1.0, {"headers_timeout": 0.2}),
    "headers that drip at a resume": Case(
        (CUT, {"fault": "slow_headers", "nth": 2, "server": "storage"}),
        (0, HALF, HALF),
        1.0,
        {"headers_timeout": 0.2},
    ),
    "a flipped byte": Case(({"fault": "flip", **ONCE},), (0, 0), 2.0),
    "a flipped byte in bytes that are kept": Case(
        ({"fault": "flip", "at_byte": 10, **ONCE}, CUT), (0, HALF, 0), 2.0
    ),
    "a body one byte short": Case(({"fault": "short", **ONCE},), (0, -1), 1.0),
    "200 to a ranged request": Case(
        (CUT, {"fault": "ignore_range", "nth": 2}), (0, HALF), 1 + HALF / ARCHIVE_BYTES
    ),
    "206 from another offset": Case((CUT, {"fault": "wrong_offset", "nth": 2}), (0, HALF, 0), 2.0),
    "206 from an earlier offset": Case(
        (CUT, {"fault": "wrong_offset", "shift": -5, "nth": 2}), (0, HALF, 0), 2.0
    ),
    "416": Case((CUT, {"fault": "unsatisfiable", "nth": 1}), (0, HALF, 0), 1 + HALF / ARCHIVE_BYTES),
    "another object of the same length": Case(
        (CUT, {"fault": "replaced", "nth": 2}), (0, HALF), 1 + HALF / ARCHIVE_BYTES
    ),
    "another object, longer": Case(
        (CUT, {"fault": "replaced", "nth": 2, "longer_by": 5_000}), (0, HALF), 1 + HALF / ARCHIVE_BYTES
    ),
    "another object, and no ETag to tell": Case(
        (CUT, {"fault": "replaced", "nth": 2}, {"fault": "no_etag"}), (0, HALF), 1 + HALF / ARCHIVE_BYTES
    ),
    "another object, and If-Range ignored": Case(
        (CUT, {"fault": "replaced", "nth": 2}, {"fault": "without", "headers": ["ETag", "Last-Modified"]}),
        (0, 0),
        1 + HALF / ARCHIVE_BYTES,
    ),
    "a URL that has expired on arrival": Case(({"fault": "url_expired", **ONCE},), (0, 0), 1.0, signed=1),
    "a URL that expires between two attempts": Case(
        (CUT, {"fault": "url_expired", "nth": 2}), (0, HALF, HALF), 1.0, signed=1
    ),
    "a signature that does not match": Case(
        (CUT, {"fault": "signature_mismatch", "nth": 2}), (0, HALF, HALF), 1.0, signed=1
    ),
    "an XML error with status 200": Case(({"fault": "xml_200", **ONCE},), (0, 0), 1.01),
    "an HTML page with status 200": Case(({"fault": "html", "status": 200, **ONCE},), (0, 0), 1.01),
    "an HTML page with status 503": Case(({"fault": "html", **ONCE},), (0, 0), 1.0),
    "an HTML page with status 503 at a resume": Case(
        (CUT, {"fault": "html", "nth": 2, "server": "storage"}), (0, HALF, HALF), 1.0
    ),
    "408": Case(({"fault": "status", "status": 408, **ONCE},), (0, 0), 1.0),
    "500": Case(({"fault": "status", "status": 500, **ONCE},), (0, 0), 1.0),
    "502": Case(({"fault": "status", "status": 502, **ONCE},), (0, 0), 1.0),
    "504": Case(({"fault": "status", "status": 504, **ONCE},), (0, 0), 1.0),
    "429 with seconds": Case(({"fault": "throttled", "retry_after": 1, **ONCE},), (0, 0), 1.0),
    "429 with a date": Case(({"fault": "throttled", "retry_after": "date", **ONCE},), (0, 0), 1.0),
    "429 with a date in the past": Case(
        ({"fault": "throttled", "retry_after": "past", **ONCE},), (0, 0), 1.0
    ),
    "429 with thirty years": Case(({"fault": "throttled", "retry_after": "huge", **ONCE},), (0, 0), 1.0),
    "429 without a word": Case(({"fault": "throttled", "retry_after": "none", **ONCE},), (0, 0), 1.0),
    "a gzip that is unpacked for us": Case(({"fault": "gzip_transcoded"},), (0, 0), 1.01),
    "a gzip that is unpacked for us, cut": Case(
        ({"fault": "gzip_transcoded"}, {**CUT, "nth": 2}), (0, 0, HALF), 1.01
    ),
    "more bytes than announced": Case(({"fault": "endless", "server": "storage"},), (0,), 1.0),
    "a body that never ends": Case(({"fault": "endless", "server": "storage", "chunked": True},), (0,), 1.1),
    "a cut without a digest": Case(({"fault": "no_hash"}, CUT), (0, HALF), 1.0),
    "a cut without an ETag": Case(({"fault": "no_etag"}, CUT), (0, HALF), 1.0),
    "a cut without any length": Case(
        (
            {"fault": "without", "headers": ["x-goog-stored-content-length"]},
            {**CUT, "chunked": True},
            {"fault": "no_length", "server": "storage"},
        ),
        (0, HALF),
        1.0,
    ),
}


# Faults that apply to one request: the first request of all objects.
FIRST = {name for name, case in SURVIVED.items() if all(rule.get("nth") == 1 for rule in case.rules)}
# The first connection is cut early, so that ranged requests occur even with a fast storage.
EARLY_CUT = {"fault": "cut", "at_byte": 1_000_000, "ranged": False, "nth": 1, "server": "storage"}
ALIKE = ("50", "429 with", "an HTML page with status 503")


def ranged_rule(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """Apply the same fault to the first ranged request instead of the first request."""
    return {**rule, "ranged": True} | ({"at_byte": 300_000} if "at_byte" in rule else {})


def spare_of(case: Case) -> float:
    # A connection that is cut in the middle still delivers the content of its buffers.
    return 1.02 if case.times == 1.0 else case.times * 1.02


async def survived(root: Path, case: Case, rules: Iterable[Mapping[str, Any]], **way: Any) -> RunRecord:
    async with run_environment(root, **way) as environment:
        record = await environment.run(*rules, **case.settings)
        assert environment.has_complete_output()
        assert record.exit_code == 0
        assert set(record.outcome_counts()) <= {
            (Outcome.COMPLETED, Reason.DOWNLOADED),
            (Outcome.COMPLETED, Reason.LINKED),
        }
        assert all(record.faults.applied_counts[str(rule["fault"])] for rule in rules)
        assert record.downloaded_bytes <= environment.needed_bytes * spare_of(case)
        assert len(record.requests_to("results")) == 3 + 2 * case.signed
        assert not any("Authorization" in request.headers for request in record.requests_to("object"))
        return record


@pytest.mark.parametrize("name", SURVIVED)
async def test_run_with_a_storage_fault_completes(tmp_path: Path, name: str) -> None:
    case = SURVIVED[name]
    record = await survived(tmp_path, case, case.rules, connections=1)
    if case.offsets is not None:
        for offsets in record.requested_offsets():
            assert list(map(sign_free, offsets)) == list(map(sign_free, case.offsets))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in FIRST else ()) for name in SURVIVED]
)
async def test_run_with_several_connections_and_a_storage_fault_completes(tmp_path: Path, name: str) -> None:
    await survived(tmp_path, SURVIVED[name], SURVIVED[name].rules, **SEGMENTED_SETTINGS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.startswith(ALIKE) else ())
        for name in SURVIVED
        if name in FIRST
    ],
)
async def test_run_with_a_fault_of_one_ranged_request_completes(tmp_path: Path, name: str) -> None:
    case = SURVIVED[name]
    record = await survived(tmp_path, case, [EARLY_CUT, *map(ranged_rule, case.rules)], **SEGMENTED_SETTINGS)
    assert all(max(offsets) > 0 for offsets in record.requested_offsets())


def sign_free(offset: int) -> int:
    """Replace offsets near the end of an object with -1, because lengths differ slightly."""
    return -1 if offset >= ARCHIVE_BYTES - 1_000 or offset < 0 else offset
