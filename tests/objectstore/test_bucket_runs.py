"""Runs of the library whose destination is a bucket of SeaweedFS."""

import base64
import json
from collections import Counter
from dataclasses import replace

import obstore
import pytest

from bulkdl import Settings
from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.failure_policy import ExitCode
from bulkdl.maintenance.verify import VerifyOptions, verify
from bulkdl.models import Outcome, Reason
from bulkdl.report.verification import FileState
from bulkdl.sources.registry import installed_layouts
from bulkdl.sources.up42_jobs.models import Kind
from support.bucket_runs import bucket_environment


@pytest.fixture
async def site(bucket_url, tmp_path):
    async with bucket_environment(bucket_url, tmp_path) as site:
        yield site


async def test_run_objects_are_identical_to_the_outputs_of_up42(site):
    summary = await site.run()
    assert (summary.exit_code, summary.failures, summary.problems) == (ExitCode.OK, [], [])
    assert site.read_files() == site.expected_files()
    assert list((site.state / "parts").iterdir()) == []


async def test_run_copies_the_object_of_a_twin_inside_the_store(site):
    summary = await site.run()
    assert site.storage_bytes() == site.object_bytes()
    assert summary.counts[Kind.ARCHIVE, Outcome.COMPLETED, Reason.LINKED].outputs > 0


async def test_run_second_run_requests_only_job_lists(site, proxy):
    await site.run()
    before = site.objects()
    proxy.requests.clear()
    summary = await site.run()
    assert {endpoint for _, endpoint in site.request_counts()} == {"jobs", "token"}
    assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 0)
    names = [path.partition("?")[0].rpartition("/")[2].partition("-")[0] for _, path in proxy.requests]
    assert Counter(names) == {
        "outputs": 2,  # lists: a probe, and older snapshots
        "probe": 1,
        "lease.json": 7,  # read, acquired, two writes that must fail, each with a read, released
        "layout.json": 1,
        "snapshot.json": 2,
        "ledger": 2,  # an object that is written and examined
    }
    assert site.objects() == before


async def test_plan_after_a_run_sends_no_request_to_the_store(site, proxy):
    await site.run()
    proxy.requests.clear()
    async with site.downloader() as downloader:
        plan = await downloader.plan()
    assert plan.outputs == []
    assert proxy.requests == []


async def test_verify_reads_one_list_and_retry_downloads_a_deleted_object(site, proxy):
    await site.run()
    key = next(key for key in site.read_files() if key.endswith("final_output.tar.gz"))
    options = VerifyOptions(site.output, installed_layouts(Settings()), site.state)
    proxy.requests.clear()
    assert (await verify(options)).findings == []
    assert [method for method, _ in proxy.requests] == ["GET"]
    obstore.delete(create_store(site.output), key)
    assert (await site.run()).outputs(Outcome.COMPLETED) == 0
    assert [(found.key, found.state) for found in (await verify(replace(options, repair=True))).findings] == [
        (key, FileState.MISSING)
    ]
    assert (await site.run()).outputs(Outcome.COMPLETED) == 1
    assert site.read_files() == site.expected_files()


async def test_run_objects_have_content_type_checksum_and_identity_of_their_source(site):
    await site.run()
    store = create_store(site.output)
    types = {}
    for key in site.read_files():
        attributes = obstore.get(store, key, options={"head": True}).attributes
        types.setdefault(key[key.rindex("/") + 1 :].partition(".")[2], attributes["Content-Type"])
        assert attributes["bulkdldigest"].startswith("crc32c=")
        source = (
            json.loads(base64.b64decode(attributes["bulkdlsource"])) if "bulkdlsource" in attributes else {}
        )
        if key.endswith(".tar.gz"):
            assert {"etag", "source"} <= source.keys()
    assert types["tar.gz"] == "application/gzip"
    assert types["json"] == "application/json"
