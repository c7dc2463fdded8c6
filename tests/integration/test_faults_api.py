"""Test complete runs with each fault of the UP42 API and its token endpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bulkdl.models import Outcome, Reason
from support.fault_runs import run_environment

pytestmark = pytest.mark.usefixtures("virtual_clock")

API = {"server": "api"}
QUESTIONS = ("jobs", "tasks", "quicklooks", "results")
BODIES = ("geojson", "quicklook")


@dataclass(frozen=True)
class Case:
    """
    Faults of requests to the API.

    Attributes:
        extra: Requests beyond those of a run without faults, by endpoint; None where it depends.
    """

    rules: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, int] | None = None


def first(fault: str, *endpoints: str, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "nth": 1, "server": "api", "endpoint": list(endpoints), **more}


EVERYTHING = (*QUESTIONS, *BODIES)
# A run without faults requests the second page of jobs in advance, so the fault applies to both pages.
AGAIN = {"jobs": 1, "tasks": 1, "quicklooks": 2, "results": 2}

SURVIVED = {
    "truncated JSON": Case((first("truncated_json", *QUESTIONS, "geojson"),)),
    "a list that is none": Case((first("wrong_type", *QUESTIONS),)),
    "a number for a URL": Case((first("wrong_type", "results", field="data.url", value=7),)),
    "an error in a 200": Case((first("error_in_200", *EVERYTHING),)),
    "an error in a 200, by a word": Case((first("error_in_200", *EVERYTHING, code="INTERNAL_SERVER_ERROR"),)),
    "an HTML page with status 503": Case((first("html", *EVERYTHING, "token"),)),
    "an HTML page with status 200": Case((first("html", *EVERYTHING, "token", status=200),)),
    "a reset before any header": Case((first("reset", *EVERYTHING, "token"),)),
    "a cut": Case((first("cut", *EVERYTHING, "token"),)),
    "a cut of a chunked body": Case((first("cut", *EVERYTHING, "token", chunked=True),)),
    "a body that stalls": Case(
        (first("stall", *EVERYTHING, "token"),), {"headers_timeout": 0.2, "speed_time": 0.2}
    ),
    "a body that drips": Case(
        (first("drip", *EVERYTHING, "token", bytes_per_s=40),),
        {"speed_time": 0.2, "speed_limit": 4_000, "headers_timeout": 5},
    ),
    "headers that drip": Case((first("slow_headers", *EVERYTHING, "token"),), {"headers_timeout": 0.2}),
    "a response that does not start": Case(
        (first("latency", *EVERYTHING, "token", seconds=3600),), {"headers_timeout": 0.2}
    ),
    "429 with seconds": Case((first("throttled", *EVERYTHING, "token"),)),
    "429 with a date": Case((first("throttled", *EVERYTHING, retry_after="date"),)),
    "429 with a date in the past": Case((first("throttled", *EVERYTHING, retry_after="past"),)),
    "429 with thirty years": Case((first("throttled", *EVERYTHING, "token", retry_after="huge"),)),
    "429 without a word": Case((first("throttled", *EVERYTHING, retry_after="none"),)),
    "500": Case((first("status", *EVERYTHING, "token", status=500),)),
    "504": Case((first("status", *EVERYTHING, status=504),)),
    "more bytes than announced": Case((first("endless", *EVERYTHING),)),
    "pages that overlap": Case(({"fault": "repeat_pages", "forever": False},)),
    "a token endpoint that fails for a while": Case(
        ({"fault": "status", "status": 503, "endpoint": "token", "first": 5, "per": "all"},),
        extra={"token": 5},
    ),
    "a token endpoint that fails in the middle": Case(
        (
            {"fault": "revoke_tokens", "endpoint": "results", "limit": 1},
            {"fault": "status", "status": 502, "endpoint": "token", "nth": [2, 3, 4], "per": "all"},
        ),
        extra={"token": 4},
    ),
    "all tokens revoked": Case(
        ({"fault": "revoke_tokens", "endpoint": "geojson", "limit": 1},), extra={"token": 1}
    ),
    "everything throttled, dropped and garbled": Case(
        (
            {"fault": "throttled", "probability": 0.1, **API, "per": "all"},
            {"fault": "truncated_json", "probability": 0.1, "per": "all"},
            {"fault": "reset", "probability": 0.1, **API, "per": "all"},
            {"fault": "html", "probability": 0.1, **API, "per": "all"},
        ),
        {"retries": 29},
    ),
}


@pytest.mark.parametrize("name", SURVIVED)
async def test_run_with_an_api_fault_completes(tmp_path: Path, name: str) -> None:
    case = SURVIVED[name]
    async with run_environment(tmp_path) as environment:
        record = await environment.run(*case.rules, **case.settings)
        assert environment.has_complete_output()
        assert record.exit_code == 0
        assert set(record.outcome_counts()) <= {
            (Outcome.COMPLETED, Reason.DOWNLOADED),
            (Outcome.COMPLETED, Reason.LINKED),
        }
        assert all(
            record.faults.applied_counts[str(rule["fault"])]
            for rule in case.rules
            if "probability" not in rule
        )
        assert record.downloaded_bytes == environment.needed_bytes
        for endpoint, extra in (case.extra or {}).items():
            assert len(record.requests_to(endpoint)) == 1 + extra
