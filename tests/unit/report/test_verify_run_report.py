import json
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from bulkdl.failure_policy import ExitCode
from bulkdl.models import CommittedFile, Digest, Kind, Outcome, Output, Reason, Result, Validator
from bulkdl.report.run_report import _EXCLUDED_SETTINGS, MAX_JOBS, run_report, schema
from bulkdl.report.summary import SummaryBuilder
from bulkdl.selection import JobRef, Selection
from bulkdl.settings import Settings, Shard
from bulkdl.settings.model import ProjectTable

AT = datetime(2022, 3, 10, 12, tzinfo=UTC)
P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
J1 = "023694d4-1b52-46e8-a9a0-05c9ee23f15c"
RUN = "20220310T120000Z-0a1b2c"
OUTPUT = Output(P1, J1, None, Kind.ARCHIVE)
SELECTIONS = {
    "all": Selection(),
    "everything": Selection(
        (P1,),
        (JobRef(P1, J1), JobRef(None, J1)),
        AT,
        AT,
        frozenset({"FAILED"}),
        "DEFAULT",
        "h*",
        J1,
        shard=Shard(0, 2),
        since_last_s=3600.0,
    ),
    "retry": Selection(reasons=frozenset({Reason.STALLED, None})),
}


def report(selection=None, stopped_by=None, **settings):
    build = SummaryBuilder(RUN, AT)
    receipt = CommittedFile("k", 5, Digest("crc32c", "AAAAAA=="), Validator(), None)
    build.add(Result(OUTPUT, Outcome.COMPLETED, Reason.DOWNLOADED, receipt, downloaded_bytes=5))
    build.add(Result(OUTPUT, Outcome.FAILED, Reason.STALLED, detail="it stood still"))
    build.add_problem(Reason.SERVER_ERROR, "project", "status 503")
    summary = build.build(AT, stopped_by=stopped_by)
    return json.loads(json.dumps(run_report(summary, selection or Selection(), Settings(**settings))))


def closed(part):
    """The schema, with no key in a report that it does not describe."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, (dict, list)):
            closed(value)
    if isinstance(part, dict) and "properties" in part:
        part["additionalProperties"] = False
    return part


@pytest.mark.parametrize("stopped_by", [None, ExitCode.TERMINATED, ExitCode.MAX_DURATION])
@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
def test_each_report_fits_the_schema_and_has_no_key_more(selection, stopped_by):
    document = report(selection, stopped_by)
    jsonschema.validate(document, closed(deepcopy(schema())))
    assert document["stopped_by"] == stopped_by


@pytest.mark.parametrize("key", ["version", "selection", "exit_code", "failures", "settings"])
def test_a_key_that_is_not_there_is_noticed(key):
    document = report()
    del document[key]
    with pytest.raises(jsonschema.ValidationError, match=key):
        jsonschema.validate(document, schema())


def test_what_was_asked_for_is_told():
    told = report(SELECTIONS["everything"])["selection"]
    assert told["jobs"] == [f"{P1}/{J1}", J1]
    assert (told["shard"], told["since_at"], told["reasons"]) == ("0/2", "2022-03-10T12:00:00+00:00", None)
    assert report(SELECTIONS["retry"])["selection"]["reasons"] == ["rejected_file", "stalled"]


def test_a_long_list_of_jobs_is_counted_and_cut():
    told = report(Selection(jobs=tuple(JobRef(None, str(number)) for number in range(MAX_JOBS + 9))))[
        "selection"
    ]
    assert (len(told["jobs"]), told["jobs_total"]) == (MAX_JOBS, MAX_JOBS + 9)


def test_where_keys_are_is_not_told():
    table = ProjectTable(id=P1, api_key_file=Path("/run/secrets/cAnArY"))
    text = json.dumps(report(projects=(table,), output=Path("/srv/cAnArY")))
    assert "cAnArY" not in text


def test_what_is_left_out_are_settings():
    assert set(Settings.model_fields) >= _EXCLUDED_SETTINGS


def test_how_it_went_about_it_is_told():
    told = report(rate=7, retries=3)["settings"]
    assert (told["rate"], told["retries"], told["path_templates"]["job"][:1]) == (7, 3, "{")
