"""Path templates with names and dates, as a process with both sources: complete, repeated, rebuilt."""

import json
import shutil
from contextlib import asynccontextmanager

import pytest

from bulkdl.simulator import Simulator, SimulatorOptions
from bulkdl.simulator.v2.deliveries import StorageOptions
from support.both_sources import BothSources
from support.named_accounts import NamedAccount

JOB = "{created_at:%Y/%m}/{project_name}/{job_name} {job_id}"
DELIVERY = "{created_at:%Y}/{workspace_id}/{order_name}/{delivery_name}_{collection_id}"
ASSET = "{created_at:%Y}/{workspace_id}/{delivery_name}/{asset_id}"
TEMPLATES = {
    "job": f"{JOB}/job.json",
    "job_tasks": f"{JOB}/job_tasks.json",
    "job_archive": f"{JOB}/final_output{{suffix}}",
    "job_geojson": f"{JOB}/job_output.json",
    "task_archive": f"{JOB}/{{block}} {{task_id}}/task_output{{suffix}}",
    "task_geojson": f"{JOB}/{{block}} {{task_id}}/task_output.json",
    "task_quicklooks": f"{JOB}/{{block}} {{task_id}}/task_quicklook.json",
    "quicklook": f"{JOB}/{{block}} {{task_id}}/quicklooks/{{filename}}",
    "collection": f"{DELIVERY}/collection.json",
    "delivery": f"{DELIVERY}/delivery.json",
    "original": f"{DELIVERY}/{{filename}}",
    "item": f"{DELIVERY}/{{item_id}}/item.json",
    "item_file": f"{DELIVERY}/{{item_id}}/{{filename}}",
    "asset": f"{ASSET}/asset.json",
    "asset_delivery": f"{ASSET}/delivery.json",
    "asset_file": f"{ASSET}/{{filename}}",
}
STORAGE = StorageOptions(assets=16, settled=True)
ACCOUNT = NamedAccount(projects=2, jobs=14, archive_bytes=(500, 20_000), all_finished=True, storage=STORAGE)
RENAMED = NamedAccount(
    projects=2,
    jobs=14,
    archive_bytes=(500, 20_000),
    all_finished=True,
    storage=STORAGE,
    names=("renamed", "another name"),
)


@asynccontextmanager
async def open_account(folder, account, templates=TEMPLATES):
    options = SimulatorOptions(max_recorded_requests=None, strict_storage_auth=True)
    async with Simulator(account, options) as simulator:
        environment = BothSources(folder, simulator)
        lines = [f"{name} = {json.dumps(template)}" for name, template in templates.items()]
        with environment.config.open("a") as config:
            config.write("\n[path_templates]\n" + "\n".join(lines) + "\n")
        yield environment


@pytest.fixture
async def downloaded(tmp_path):
    async with open_account(tmp_path, ACCOUNT) as both:
        result = await both.run()
        assert result.code == 0, result
        yield both


def list_keys(both):
    return {path.relative_to(both.output).as_posix() for path in both.files()}


async def test_run_writes_named_folders_and_a_run_after_renaming_downloads_nothing(downloaded):
    keys = list_keys(downloaded)
    assert not any(part in ("..", "CON", "catalog") for key in keys for part in key.split("/"))
    assert {key.split("/")[0].isdigit() for key in keys} == {True}
    assert any("/project 0/escape " in key for key in keys)
    assert any("/order " in key for key in keys)
    assert downloaded.missing_files() == []
    assert not (downloaded.folder / "escape").exists()
    checked = await downloaded.bulkdl("verify", "--deep", "--format", "json")
    assert (checked.code, checked.document["untracked_total"]) == (0, 0), checked

    async with open_account(downloaded.folder, RENAMED) as renamed:
        planned = await renamed.bulkdl("plan", "--format", "json")
        assert planned.document["outputs"] == [], planned
        again = await renamed.run()
        assert (again.code, again.document["outputs"]["completed"]) == (0, 0), again
        assert renamed.count_requests()["object"] == 0
        assert list_keys(renamed) == keys


async def test_lost_file_is_downloaded_into_the_folder_with_the_former_name(downloaded):
    keys = list_keys(downloaded)
    lost = [next(key for key in sorted(keys) if key.endswith(end)) for end in ("job_output.json", ".tiff")]
    for key in lost:
        (downloaded.output / key).unlink()
    async with open_account(downloaded.folder, RENAMED) as renamed:
        again = await renamed.run()
        assert (again.code, again.document["outputs"]["completed"]) == (0, len(lost)), again
        assert list_keys(renamed) == keys


async def test_retry_downloads_rejected_files_into_the_folders_with_the_former_names(downloaded):
    keys = list_keys(downloaded)
    lost = [next(key for key in sorted(keys) if key.endswith(end)) for end in ("task_output.json", ".tiff")]
    for key in lost:
        (downloaded.output / key).write_bytes(b"damaged")
    assert (await downloaded.bulkdl("verify", "--repair")).code == 6
    async with open_account(downloaded.folder, RENAMED) as renamed:
        again = await renamed.bulkdl("retry", "--format", "json")
        assert (again.code, again.document["outputs"]["completed"]) == (0, len(lost)), again
        assert list_keys(renamed) == keys
        assert (await renamed.bulkdl("verify", "--deep")).code == 0


@pytest.mark.parametrize("account", [ACCOUNT, RENAMED], ids=["same names", "renamed"])
async def test_rebuild_restores_the_ledger_and_the_next_run_downloads_nothing(downloaded, account):
    keys = list_keys(downloaded)
    shutil.rmtree(downloaded.output / ".bulkdl")
    rebuilt = await downloaded.bulkdl("verify", "--rebuild", "--format", "json")
    assert (rebuilt.code, rebuilt.document["untracked_total"]) == (0, 0), rebuilt
    async with open_account(downloaded.folder, account) as both:
        again = await both.run()
        assert (again.code, again.document["outputs"]["completed"]) == (0, 0), again
        assert list_keys(both) == keys


async def test_catalogue_and_unpacking_find_the_documents_in_named_folders(downloaded):
    unpacked = await downloaded.bulkdl("unpack", "--format", "json")
    assert unpacked.code == 0, unpacked
    result = await downloaded.bulkdl("catalog", "--format", "json")
    assert result.code == 0, result
    items = [
        path for path in (downloaded.output / "catalog").glob("*/*/*.json") if path.name != "catalog.json"
    ]
    documents = [json.loads(path.read_text()) for path in items]
    assert any("metadata" in item["assets"] for item in documents if "assets" in item)
    assert any(item.get("geometry") for item in documents)
    for path, item in zip(items, documents, strict=True):
        for asset in item.get("assets", {}).values():
            assert (path.parent / asset["href"]).is_file(), (path, asset)


async def test_run_with_new_templates_lists_jobs_with_missing_outputs_only(tmp_path):
    async with open_account(tmp_path, ACCOUNT, {}) as both:
        assert (await both.run()).code == 0
        lost = min(path for path in both.files() if path.name == "job_output.json")
        lost.unlink()
        before = list_keys(both)
        both.count_requests()
    async with open_account(tmp_path, ACCOUNT) as both:
        again = await both.run()
        assert (again.code, again.document["outputs"]["completed"]) == (0, 1), again
        assert both.count_requests()["tasks"] == 1
        new = list_keys(both) - before
        assert len([key for key in new if key.endswith("job_output.json")]) == 1
        assert all(key.split("/")[0].isdigit() for key in new)
        assert (await both.run()).document["outputs"]["completed"] == 0


async def test_rebuild_with_templates_whose_values_are_unknown_names_the_placeholder(tmp_path):
    async with open_account(tmp_path, ACCOUNT, {}) as both:
        assert (await both.run("--source", "jobs")).code == 0
        shutil.rmtree(both.output / ".bulkdl")
    archives = {"job_archive": "{project_name}/{job_id}/final{suffix}"}
    async with open_account(tmp_path, ACCOUNT, archives) as both:
        rebuilt = await both.bulkdl("verify", "--rebuild", "--format", "json")
        assert rebuilt.code == 6, rebuilt
        details = {finding["detail"] for finding in rebuilt.document["findings"]}
        assert details == {
            "{project_name}/{job_id}/final{suffix}: no value for {project_name}; use the path_templates that"
            " wrote the files"
        }


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{job_nam}/{job_id}.json", ("unknown placeholder {job_nam}", "did you mean {job_name}?")),
        ("{created_at:%B}/{job_id}.json", ("invalid date format '%B'", "%Y")),
        ("{job_name:20}/{job_id}.json", ("only {created_at} has a format",)),
        ("{job_name}/job.json", ("needs {job_id}", "same path")),
        ("{project_name} {job_name}/{job_id}.json", ("{project_name} and {job_name}", "slash")),
        ("{project_id}/{job_id}/{job_name}.json", ("job and", "same path")),
    ],
)
async def test_run_refuses_templates_that_are_invalid_or_could_collide(tmp_path, template, words):
    async with open_account(tmp_path, ACCOUNT, {"job": template}) as both:
        for command in ("run", "plan", "config"):
            result = await both.bulkdl(command)
            assert result.code == 2, result
            (line,) = result.err.splitlines()
            assert all(word in line for word in words), line
            assert "bulkdl.toml: path_templates" in line
        assert both.count_requests().total() == 0
        assert not both.output.exists()
