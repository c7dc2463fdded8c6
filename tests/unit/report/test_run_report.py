import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from bulkdl.failure_policy import ExitCode
from bulkdl.models import CommittedFile, Digest, Outcome, Reason, Result, Validator
from bulkdl.report.run_report import _EXCLUDED_SETTINGS, MAX_CONTAINERS, run_report, schema
from bulkdl.report.summary import SummaryBuilder
from bulkdl.selection import ContainerSelector, Selection
from bulkdl.settings import AccountTable, ProjectTable, Settings, Shard
from bulkdl.sources.up42_jobs.filters import JobFilters
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.sources.up42_storage.filters import DeliveryFilters

AT = datetime(2022, 3, 10, 12, tzinfo=UTC)
P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
J1 = "023694d4-1b52-46e8-a9a0-05c9ee23f15c"
RUN = "20220310T120000Z-0a1b2c"
OUTPUT = job_output(P1, J1, None, Kind.ARCHIVE)
SELECTIONS = {
    "all": Selection(),
    "everything": Selection(
        (P1,),
        (ContainerSelector(P1, J1), ContainerSelector(None, J1)),
        AT,
        AT,
        frozenset({"FAILED"}),
        "h*",
        filters=JobFilters("DEFAULT", J1),
        shard=Shard(0, 2),
        since_last_s=3600.0,
    ),
    "storage": Selection(("team",), source="storage", filters=DeliveryFilters(("w",), ("o",), ("j",))),
    "retry": Selection(reasons=frozenset({Reason.STALLED, None})),
}


def report(selection=None, stopped_by=None, **settings):
    build = SummaryBuilder(RUN, AT)
    build.containers("jobs").seen = 3
    receipt = CommittedFile("k", 5, Digest("crc32c", "AAAAAA=="), Validator(), None)
    build.add(Result(OUTPUT, Outcome.COMPLETED, Reason.DOWNLOADED, receipt, downloaded_bytes=5))
    build.add(Result(OUTPUT, Outcome.FAILED, Reason.STALLED, detail="it stood still"))
    build.add_problem(Reason.SERVER_ERROR, "project", "status 503", source="jobs")
    build.add_problem(Reason.DISK_ERROR, "output directory")
    build.count_derived("unpack", "completed", 1, 3, 500)
    summary = build.build(AT, stopped_by=stopped_by)
    return json.loads(json.dumps(run_report(summary, [selection or Selection()], Settings(**settings))))


def without_additional_keys(part):
    """Return the schema with ``additionalProperties`` set to false."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, (dict, list)):
            without_additional_keys(value)
    if isinstance(part, dict) and "properties" in part:
        part["additionalProperties"] = False
    return part


@pytest.mark.parametrize("stopped_by", [None, ExitCode.TERMINATED, ExitCode.MAX_DURATION])
@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
def test_run_report_matches_the_schema_without_additional_keys(selection, stopped_by):
    document = report(selection, stopped_by)
    jsonschema.validate(document, without_additional_keys(deepcopy(schema())))
    assert document["stopped_by"] == stopped_by


@pytest.mark.parametrize("key", ["version", "selections", "exit_code", "failures", "settings"])
def test_schema_rejects_a_report_with_a_missing_key(key):
    document = report()
    del document[key]
    with pytest.raises(jsonschema.ValidationError, match=key):
        jsonschema.validate(document, schema())


def test_schema_accepts_the_name_of_any_kind_and_no_other_text():
    document = report()
    (count, *_) = document["counts"]
    count["kind"] = "note"
    jsonschema.validate(document, schema())
    count["kind"] = "A note"
    with pytest.raises(jsonschema.ValidationError, match="'A note' does not match"):
        jsonschema.validate(document, schema())


def test_run_report_contains_the_selection():
    (section,) = report(SELECTIONS["everything"])["selections"]
    assert section["filters"]["workflow_id"] == J1
    assert section["containers"] == [f"{P1}/{J1}", J1]
    assert (section["shard"], section["since_at"], section["reasons"]) == (
        "0/2",
        "2022-03-10T12:00:00+00:00",
        None,
    )
    assert report(SELECTIONS["retry"])["selections"][0]["reasons"] == ["rejected_file", "stalled"]


def test_run_report_limits_the_list_of_containers():
    (section,) = report(
        Selection(
            containers=tuple(ContainerSelector(None, str(number)) for number in range(MAX_CONTAINERS + 9))
        )
    )["selections"]
    assert (len(section["containers"]), section["containers_total"]) == (MAX_CONTAINERS, MAX_CONTAINERS + 9)


def test_run_report_does_not_contain_locations_of_secrets():
    table = ProjectTable(id=P1, api_key_file=Path("/run/secrets/cAnArY"))
    account = AccountTable(name="a", username="cAnArY", password_file=Path("/run/secrets/cAnArY"))
    text = json.dumps(report(projects=(table,), accounts=(account,), output=Path("/srv/cAnArY")))
    assert "cAnArY" not in text


def test_excluded_settings_exist():
    assert set(Settings.model_fields) >= _EXCLUDED_SETTINGS


def test_run_report_contains_the_settings():
    section = report(rate=7, retries=3)["settings"]
    assert (section["rate"], section["retries"], section["path_templates"]["job"][:1]) == (7, 3, "{")
