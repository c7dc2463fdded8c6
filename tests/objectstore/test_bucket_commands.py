"""Processes of the command line whose destination is a bucket of SeaweedFS."""

import asyncio
import json
import re
import shutil

import obstore
import pytest

from bulkdl.destinations.objectstore.stores import create_store
from support.cli_runs import cli_environment
from support.library_runs import TAME
from support.seaweedfs import READER

SMALL = ("--only", "geojson", "--format", "json")


@pytest.fixture
async def site(bucket_url, store_env, tmp_path):
    env = {**store_env, "BULKDL_OUTPUT": bucket_url, "BULKDL_STATE": str(tmp_path / "state")}
    async with cli_environment(tmp_path, TAME, **env) as site:
        project = site.simulator.projects[0]
        site.env["UP42_PROJECT_ID"], site.env["UP42_PROJECT_API_KEY"] = project.id, project.api_key
        site.url, site.state = bucket_url, tmp_path / "state"
        yield site


@pytest.mark.parametrize(
    ("env", "exit_code", "message"),
    [
        ({"BULKDL_OUTPUT": "s3://no-such-bucket/x"}, 2, "the bucket does not exist; create it"),
        ({"AWS_SECRET_ACCESS_KEY": "WRONG"}, 7, r"permission denied \(SignatureDoesNotMatch\)"),
        ({"AWS_ACCESS_KEY_ID": "UNKNOWN"}, 7, r"permission denied \(InvalidAccessKeyId\)"),
        (
            {"AWS_ACCESS_KEY_ID": READER[0], "AWS_SECRET_ACCESS_KEY": READER[1]},
            7,
            r"permission denied \(AccessDenied\)",
        ),
        ({"AWS_ENDPOINT_URL": "http://store.example"}, 2, "AWS_ENDPOINT_URL: expected https://"),
        ({"BULKDL_OUTPUT": "s3://outputs/a//b"}, 2, "invalid URL: the prefix contains an empty"),
    ],
)
async def test_run_unusable_bucket_fails_before_the_first_request(site, env, exit_code, message):
    run = await site.bulkdl("--retries", "0", **env)
    assert await run.wait_for_exit() == exit_code
    lines = [line for line in run.log.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, run.log
    assert re.search(message, lines[0]), lines
    assert "SECRET" not in run.log + run.out
    assert not site.simulator.requests


@pytest.mark.timeout(300)
async def test_run_30_short_processes_end_with_their_own_exit_code(site):
    codes = []
    for number in range(10):
        runs = []
        for part in "abc":
            env = {
                "BULKDL_OUTPUT": f"{site.url}/{number}{part}",
                "BULKDL_STATE": f"{site.state}-{number}{part}",
            }
            runs.append(await site.start(*SMALL, **env))
        codes += await asyncio.gather(*(run.wait_for_exit() for run in runs))
    assert codes == [0] * 30


async def test_verify_finds_missing_and_damaged_objects_and_retry_downloads_them(site):
    await site.bulkdl()
    assert await (await site.bulkdl("--deep", command="verify")).wait_for_exit() == 0
    status = await site.bulkdl("--format", "json", command="status")
    assert await status.wait_for_exit() == 0
    assert status.summary["output"] == site.url
    store = create_store(site.url)
    keys = [meta["path"] for page in obstore.list(store) for meta in page]
    first, second, third = [key for key in keys if key.endswith("task_output.tar.gz")][:3]
    size = obstore.head(store, second)["size"]
    obstore.delete(store, first)
    obstore.put(store, second, b"x" * size)
    obstore.put(store, third, b"short")
    quick = await site.bulkdl("--format", "json", command="verify")
    assert await quick.wait_for_exit() == 6
    states = {finding["key"]: finding["state"] for finding in quick.summary["findings"]}
    assert states == {first: "missing", second: "wrong_digest", third: "wrong_size"}
    deep = await site.bulkdl("--deep", "--repair", "--format", "json", command="verify")
    assert await deep.wait_for_exit() == 6
    assert {finding["key"] for finding in deep.summary["findings"]} == {first, second, third}
    assert await (await site.bulkdl(command="retry")).wait_for_exit() == 0
    assert await (await site.bulkdl("--deep", command="verify")).wait_for_exit() == 0


async def test_rebuild_recreates_the_ledger_from_the_bucket(site):
    await site.bulkdl()
    shutil.rmtree(site.state)
    rebuilt = await site.bulkdl("--rebuild", "--format", "json", command="verify")
    assert await rebuilt.wait_for_exit() == 0, rebuilt.log
    before = site.sent_bytes
    run = await site.bulkdl("--format", "json")
    assert await run.wait_for_exit() == 0
    assert site.sent_bytes == before, json.dumps(run.summary, indent=1)[:2000]
