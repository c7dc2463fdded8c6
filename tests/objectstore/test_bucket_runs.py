"""Runs of the library whose destination is a bucket of SeaweedFS."""

import base64
import json

import obstore
import pytest

from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.failure_policy import ExitCode
from bulkdl.models import Outcome, Reason
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


async def test_run_second_run_requests_only_job_lists(site):
    await site.run()
    before = site.objects()
    summary = await site.run()
    assert {endpoint for _, endpoint in site.request_counts()} == {"jobs", "token"}
    assert (summary.exit_code, summary.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 0)
    assert site.objects() == before


async def test_run_downloads_an_object_again_that_was_deleted(site):
    await site.run()
    key = next(key for key in site.read_files() if key.endswith("final_output.tar.gz"))
    obstore.delete(create_store(site.output), key)
    summary = await site.run()
    assert summary.outputs(Outcome.COMPLETED) == 1
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
