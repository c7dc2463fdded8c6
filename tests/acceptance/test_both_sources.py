"""One config with projects and accounts: all commands use both sources and show them."""

import csv
import re
import shutil
from collections import Counter

import jsonschema
import pytest

from bulkdl.report.run_report import schema
from bulkdl.simulator import Faults
from support.both_sources import both_sources

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def both(tmp_path):
    async with both_sources(tmp_path) as environment:
        yield environment


async def test_run_downloads_both_sources_into_one_directory_and_a_rerun_nothing(both):
    result = await both.run()
    assert result.code == 0, result
    assert both.missing_files() == []
    assert both.missing_job_files() == []
    assert both.exit_codes(result) == {"jobs": 0, "storage": 0}
    assert set(both.downloaded(result)) == {"jobs", "storage"}
    (started,) = [event for event in result.events if event["event"] == "run.started"]
    assert started["sources"] == ["jobs", "storage"]

    both.count_requests()
    again = await both.run()
    assert again.code == 0, again
    assert again.document["outputs"]["completed"] == 0
    counts = both.count_requests()
    assert counts["download_url"] == counts["object"] == 0


@pytest.mark.parametrize(
    ("flags", "sources"),
    [
        (("--source", "jobs"), ["jobs"]),
        (("--source", "storage"), ["storage"]),
        (("--source", "storage,jobs"), ["storage", "jobs"]),
        (("--only", "archive,original"), ["jobs", "storage"]),
        (("--only", "original"), ["storage"]),
        (("--mode", "DEFAULT"), ["jobs"]),
        (("--order", UNKNOWN), ["storage"]),
    ],
    ids=" ".join,
)
async def test_plan_uses_the_sources_that_the_flags_select(both, flags, sources):
    result = await both.bulkdl("plan", "--format", "json", *flags)
    assert result.code == 0, result
    assert [part["source"] for part in result.document["sources"]] == sources
    endpoints = both.count_requests()
    assert bool(endpoints["jobs"]) is ("jobs" in sources)
    assert bool(endpoints["assets"]) is ("storage" in sources)
    assert not both.output.exists()


async def test_plan_of_a_project_or_of_a_collection_uses_one_source(both):
    project = both.simulator.projects[0]
    job = next(job for job in both.simulator.account.iter_jobs() if job.project_id == project.id)
    collection = next(file.collection_id for file in both.simulator.expected_files() if file.collection_id)
    for flags, source in (
        (("-p", project.id), "jobs"),
        (("--job", f"{project.id}/{job.id}"), "jobs"),
        (("--collection", collection), "storage"),
    ):
        result = await both.bulkdl("plan", "--format", "json", *flags)
        assert result.code == 0, result
        assert [part["source"] for part in result.document["sources"]] == [source]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--job", UNKNOWN),
            "--job: the IDs can belong to several sources; add --source jobs or --source storage",
        ),
        (("-i", "ids.txt"), "--jobs-file: the IDs can belong to several sources"),
        (("-p", UNKNOWN, "--order", UNKNOWN), "--project (jobs) and --order (storage) select from different"),
        (("--source", "jobs", "--collection", UNKNOWN), "--collection: selects from the source storage, but"),
        (
            ("--source", "storage", "--only", "archive"),
            "--only: the source storage has no outputs of the kind archive",
        ),
    ],
    ids=["job", "file", "project and order", "collection of jobs", "kind of jobs"],
)
async def test_plan_with_an_ambiguous_selection_exits_with_2_and_one_line(both, flags, message):
    (both.folder / "ids.txt").write_text(f"{UNKNOWN}\n")
    result = await both.bulkdl("plan", *flags)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result
    assert message in result.err
    assert both.count_requests() == {}


async def test_filters_in_the_config_file_apply_to_their_source_only(both):
    text = both.config.read_text()
    both.config.write_text(f'workflow = "{UNKNOWN}"\norder = ["{UNKNOWN}"]\n{text}')
    result = await both.run()
    assert result.code == 0, result
    parts = {part["source"]: part["containers"] for part in result.document["sources"]}
    assert all(counts["seen"] and not counts["selected"] for counts in parts.values()), parts


async def test_one_rejected_project_and_one_rejected_account_fail_alone(both):
    result = await both.run(ACCOUNT_PASSWORD="wrong-password", KEY_0="wrong-key")
    assert both.exit_codes(result) == {"jobs": 3, "storage": 7}
    assert result.code == 7, result
    assert {problem["source"] for problem in result.document["problems"]} == {"jobs", "storage"}
    rejected = both.simulator.projects[0].id
    missing = both.missing_job_files()
    assert missing
    assert all(key.startswith(rejected) for key in missing)
    assert "wrong-password" not in result.out + result.err

    healed = await both.run()
    assert healed.code == 0, healed
    assert both.missing_files() == both.missing_job_files() == []


async def test_watermarks_of_the_sources_are_separate(both):
    failure = {"fault": "status", "status": 403, "endpoint": "geojson", "first": 1}
    both.simulator.faults = Faults.from_rules(failure)
    first = await both.run("--since", "last")
    assert both.exit_codes(first) == {"jobs": 3, "storage": 0}, first
    both.simulator.faults = None
    second = await both.run("--since", "last")
    assert second.code == 0, second
    read = {
        event["source"]: event["watermark_at"]
        for event in second.events
        if event["event"] == "watermark.read"
    }
    assert read["jobs"] is None
    assert read["storage"] is not None
    alone = await both.run("--since", "last", "--source", "jobs")
    (event,) = [event for event in alone.events if event["event"] == "watermark.read"]
    assert event["watermark_at"] is not None


async def test_retry_downloads_the_failed_outputs_of_both_sources(both):
    asset = next(file.path for file in both.simulator.expected_files() if not file.is_original)
    both.simulator.faults = Faults.from_rules(
        {"fault": "status", "status": 500, "endpoint": "object", "path": f"*{asset}"},
        {"fault": "status", "status": 403, "endpoint": "geojson", "first": 1},
    )
    failed = await both.run("--retries", "0")
    assert both.exit_codes(failed) == {"jobs": 3, "storage": 5}, failed
    failures = Counter((row["source"], row["container_id"]) for row in failed.document["failures"])
    assert {source for source, _ in failures} == {"jobs", "storage"}
    listed = await both.bulkdl("status", "--failures", "--format", "csv")
    header, *rows = csv.reader(listed.out.splitlines())
    assert header[:4] == ["source", "scope", "container_id", "parent"]
    assert Counter((row[0], row[2]) for row in rows) == failures

    both.simulator.faults = None
    both.count_requests()
    only_storage = await both.bulkdl("retry", "--source", "storage", "--format", "json")
    assert (only_storage.code, both.downloaded(only_storage)) == (0, {"storage": 1}), only_storage
    nothing = await both.bulkdl("retry", "--source", "storage")
    assert "of another source only; add --source jobs" in nothing.out, nothing
    result = await both.bulkdl("retry", "--format", "json")
    failed_jobs = sum(number for (source, _), number in failures.items() if source == "jobs")
    assert (result.code, both.downloaded(result)) == (0, {"jobs": failed_jobs}), result
    counts = both.count_requests()
    assert not any(counts[name] for name in ("jobs", "assets", "collections"))
    assert both.missing_files() == both.missing_job_files() == []


async def test_status_verify_and_rebuild_show_both_sources(both):
    assert (await both.run()).code == 0
    status = await both.bulkdl("status", "--format", "json")
    assert set(status.document["containers"]) == {"jobs", "storage"}
    assert {row["source"] for row in status.document["counts"]} == {"jobs", "storage"}
    text = await both.bulkdl("status")
    assert any(line.startswith("jobs: ") for line in text.out.splitlines()), text
    assert any(line.startswith("deliveries: ") for line in text.out.splitlines()), text
    verified = await both.bulkdl("verify", "--deep", "--format", "json")
    assert verified.code == 0, verified
    assert {row["source"] for row in verified.document["counts"]} == {"jobs", "storage"}

    before = sorted(both.files())
    shutil.rmtree(both.output / ".bulkdl")
    rebuilt = await both.bulkdl("verify", "--rebuild", "--format", "json")
    assert rebuilt.code == 0, rebuilt
    assert set(rebuilt.document["containers"]) == {"jobs", "storage"}
    assert rebuilt.document["untracked_total"] == 0
    both.count_requests()
    again = await both.run()
    assert again.code == 0, again
    # Only a name that a signed URL contains cannot be restored from the documents.
    nameless = sum(not each.name for each in both.simulator.account.deliveries.iter_deliveries())
    assert both.downloaded(again)["jobs"] == 0
    assert both.downloaded(again)["storage"] <= nameless
    assert sorted(both.files()) == before


async def test_shards_divide_the_containers_of_both_sources(both):
    completed = Counter()
    for number in range(2):
        output = str(both.folder / "out" / f"shard-{number}")
        result = await both.run("--shard", f"{number}/2", "-o", output)
        assert result.code == 0, result
        completed += both.downloaded(result)
    whole = await both.run("-o", str(both.folder / "whole"))
    # Assets that several deliveries of an account share are linked within a shard only.
    assert completed == both.downloaded(whole)
    status = await both.bulkdl("status", "--format", "json")
    assert set(status.document["containers"]) == {"jobs", "storage"}
    assert len(status.document["ledgers"]) == 2


async def test_report_metrics_and_config_show_both_sources(both):
    metrics = both.folder / "bulkdl.prom"
    result = await both.run("--metrics-file", str(metrics))
    assert result.code == 0, result
    report = both.read_report()
    jsonschema.validate(report, schema())
    assert [selection["source"] for selection in report["selections"]] == ["jobs", "storage"]
    assert set(report["selections"][1]["kinds"]) == {"original", "asset", "preview", "metadata"}
    assert report["selections"][1]["scopes"] == ["team"]
    text = metrics.read_text()
    for source in ("jobs", "storage"):
        assert f'bulkdl_containers_total{{source="{source}",state="planned"}}' in text
        assert re.search(rf'bulkdl_bytes_total{{kind="\w+",source="{source}"}} [1-9]', text)
    shown = await both.bulkdl("config", "--format", "json")
    assert shown.document["settings"]["source"] == {"value": "jobs,storage", "source": "auto"}
    assert shown.err == ""


async def test_unpack_processes_the_archives_of_the_selected_sources(both):
    assert (await both.run("--only", "archive,original")).code == 0
    processed = []
    for flags in (("--source", "storage"), (), ()):
        result = await both.bulkdl("unpack", "--format", "json", *flags)
        assert result.code == 0, result
        processed.append(sum(part["completed"] for part in result.document["derived"]))
        folders = {path.parent.name for path in both.files() if path.parent.name == "output"}
        assert bool(folders) is (not flags)
    assert processed[0] > 0
    assert processed[1] > 0
    assert processed[2] == 0
