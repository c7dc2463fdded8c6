import csv
import io
import json
import shutil
import signal
from copy import deepcopy

import jsonschema
import pytest

from bulkdl import __version__
from bulkdl.report.run_report import schema
from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from support.filled_directory import FilledDirectory

pytestmark = pytest.mark.slow


@pytest.fixture
async def site(tmp_path):
    async with Simulator(SimulatedAccount(seed=3, projects=1, jobs=6)) as running:
        yield FilledDirectory(tmp_path, running)


@pytest.fixture
async def filled(site):
    assert (await site.bulkdl("run", "-q")).code == 0
    return site


def without_additional_keys(part):
    """Return the schema with ``additionalProperties`` set to false."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, (dict, list)):
            without_additional_keys(value)
    if isinstance(part, dict) and "properties" in part:
        part["additionalProperties"] = False
    return part


def reports(site):
    """Return the run reports, ordered by start: the run IDs of one second have no order."""
    found = [json.loads(path.read_text()) for path in site.output.glob(".bulkdl/runs/*.json")]
    return sorted(found, key=lambda report: report["started_at"])


async def test_verify_repair_and_retry_restore_damaged_files(filled):
    site = filled
    assert (await site.bulkdl("verify", "--deep")).code == 0
    quicklook, document = site.file("*/*/*/quicklooks/*"), site.file("*/*/job_output.json")
    quicklook.unlink()
    document.write_bytes(document.read_bytes().swapcase())
    (site.output / "notes.txt").write_text("mine")
    quick = await site.bulkdl("verify", "--format", "json")
    assert (quick.code, quick.document["exit_code"], quick.document["findings_total"]) == (6, 6, 1)
    deep = await site.bulkdl("verify", "--deep", "--repair")
    assert deep.code == 6
    assert f"wrong_digest: {document.relative_to(site.output)}" in deep.out
    assert f"missing: {quicklook.relative_to(site.output)}" in deep.out
    assert "untracked: notes.txt" in deep.out
    assert "2 marked for download" in deep.out
    again = await site.bulkdl("retry", "-q", "--format", "json")
    assert (again.code, again.document["outputs"]["completed"]) == (0, 2)
    assert (await site.bulkdl("verify", "--deep")).code == 0


async def test_rebuild_restores_a_lost_ledger_and_run_downloads_nothing(filled):
    site = filled
    refused = await site.bulkdl("verify", "--rebuild")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    shutil.rmtree(site.output / ".bulkdl")
    lost = await site.bulkdl("verify")
    assert lost.code == 2
    assert "--rebuild" in lost.err
    rebuilt = await site.bulkdl("verify", "--rebuild", "--format", "json")
    assert (rebuilt.code, rebuilt.document["containers"]) == (0, {"jobs": 6})
    again = await site.bulkdl("run", "-q", "--format", "json")
    assert (again.code, again.document["downloaded_bytes"], again.document["outputs"]["completed"]) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize("flag", ["--repair", "--deep"])
async def test_rebuild_with_another_mode_is_rejected(site, flag):
    ended = await site.bulkdl("verify", "--rebuild", flag)
    assert (ended.code, ended.err.count("\n")) == (2, 1)


async def test_during_a_run_only_repair_is_rejected_and_status_shows_the_owner(site):
    site.simulator.faults = Faults.from_rules({"fault": "stall", "server": "storage", "at_byte": 100})
    run = await site.start("run", "-v")
    while b"url.signed" not in await run.stderr.readline():
        pass
    try:
        rejected = await site.bulkdl("verify", "--repair")
        assert (rejected.code, rejected.out) == (11, "")
        assert (await site.bulkdl("verify")).code == 0
        (ledger,) = (await site.bulkdl("status", "--format", "json")).document["ledgers"]
        assert (ledger["owner"]["pid"], ledger["owner"]["alive"]) == (run.pid, True)
        text = (await site.bulkdl("status")).out
        assert f"running: {ledger['owner']['run_id']} since " in text
    finally:
        run.send_signal(signal.SIGTERM)
        run.send_signal(signal.SIGKILL)
        await run.communicate()
    assert "stale lock, the next run takes over" in (await site.bulkdl("status")).out


async def test_failed_outputs_are_listed_retried_and_reported(site):
    site.simulator.faults = Faults.from_rules({"fault": "status", "status": 503, "endpoint": "geojson"})
    failed = await site.bulkdl("run", "-q", "--format", "json", BULKDL_RETRIES="0")
    assert failed.code == 5
    lines = (await site.bulkdl("status", "--failures", "--format", "json")).out.splitlines()
    assert len(lines) == failed.document["failures_total"] > 0
    assert {json.loads(line)["reason"] for line in lines} == {"server_error"}
    rows = list(
        csv.DictReader(io.StringIO((await site.bulkdl("status", "--failures", "--format", "csv")).out))
    )
    assert [row["key"] for row in rows] == [json.loads(line)["key"] or "" for line in lines]
    counted = list(csv.DictReader(io.StringIO((await site.bulkdl("status", "--format", "csv")).out)))
    assert {
        (row["kind"], row["state"], row["outputs"]) for row in counted if row["reason"] == "server_error"
    } == {("geojson", "failed", str(len(lines)))}
    site.simulator.faults = None
    other = await site.bulkdl("retry", "--reason", "stalled")
    assert (other.code, other.out) == (0, "nothing to retry: the ledger contains no outputs with stalled\n")
    again = await site.bulkdl("retry", "-q", "--reason", "server_error", "--format", "json")
    assert (again.code, again.document["outputs"]["completed"]) == (0, len(lines))
    nothing = await site.bulkdl("retry", "--format", "json")
    assert (nothing.code, nothing.document["run_id"], nothing.document["outputs"]["failed"]) == (0, None, 0)
    first, second = reports(site)
    selected, retried = first["selections"][0], second["selections"][0]
    assert (selected["reasons"], retried["reasons"]) == (None, ["server_error"])
    assert retried["containers_total"] == len(retried["containers"]) > 0
    for report in (first, second):
        jsonschema.validate(report, without_additional_keys(deepcopy(schema())))
        assert (report["version"], report["bulkdl"]) == (2, __version__)


async def test_retry_with_an_unknown_reason_suggests_the_nearest_reason(site):
    ended = await site.bulkdl("retry", "--reason", "stall")
    assert ended.code == 2
    assert ended.err == "bulkdl: --reason: 'stall' is not a retryable reason; did you mean stalled?\n"


async def test_run_report_with_all_failures_matches_the_schema(site):
    site.simulator.faults = Faults.from_rules(
        {"fault": "xml_200", "server": "storage"},
        {"fault": "status", "status": 503, "endpoint": "tasks", "first": 1, "per": "all"},
    )
    options = ["--since", "9000d", "--until", "1s", "--name", "*", "--status", "SUCCEEDED", "--shard", "0/1"]
    ended = await site.bulkdl("run", "-q", *options, "--bwlimit", "500M", BULKDL_RETRIES="0")
    assert ended.code == 6
    (report,) = reports(site)
    jsonschema.validate(report, without_additional_keys(deepcopy(schema())))
    assert report["failures"]
    assert report["problems"]
    assert report["settings"]["retries"] == 0
    assert site.env["KEY"] not in json.dumps(report)


def test_schema_is_a_valid_json_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


async def test_status_combines_the_shards_of_a_directory(site):
    shards = [site.output / f"shard-{number}" for number in range(2)]
    for number, shard in enumerate(shards):
        assert (await site.bulkdl("run", "-q", "--shard", f"{number}/2", BULKDL_OUTPUT=str(shard))).code == 0
    status = (await site.bulkdl("status", "--format", "json")).document
    assert [ledger["output"] for ledger in status["ledgers"]] == ["shard-0", "shard-1"]
    assert status["containers"] == {"jobs": {"up_to_date": 6}}
