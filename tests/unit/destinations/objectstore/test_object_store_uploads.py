"""The plan of an upload, the memory of all uploads, the URL of a store, and the metadata of an object."""

import asyncio
import base64
import json

import pytest

from bulkdl.destinations.network import UploadOptions
from bulkdl.destinations.objectstore.metadata import build_attributes, content_type, parse_digest
from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.destinations.objectstore.upload import MIB, UploadSlots, plan_upload
from bulkdl.models import CommittedFile, Digest, Validator

MEMORY = 256 * MIB
GIB = 1024 * MIB


@pytest.mark.parametrize("size_bytes", [0, 1, 8 * MIB, 8 * MIB + 1, GIB, 72 * GIB, 1024 * GIB, 5000 * GIB])
@pytest.mark.parametrize("memory_bytes", [16 * MIB, MEMORY])
def test_plan_upload_has_few_parts_and_bounded_memory(size_bytes, memory_bytes):
    plan = plan_upload(size_bytes, memory_bytes)
    assert plan.is_multipart == (size_bytes > plan.chunk_bytes)
    assert size_bytes <= 9000 * plan.chunk_bytes
    assert plan.chunk_bytes % MIB == 0
    if plan.is_multipart:
        assert plan.memory_bytes == (plan.parallel_parts + 2) * plan.chunk_bytes
        assert plan.parallel_parts == 1 or plan.memory_bytes <= memory_bytes
    else:
        assert plan.memory_bytes == size_bytes


async def test_upload_slots_limit_memory_and_number_and_serve_in_order():
    slots, held, most, order = UploadSlots(UploadOptions(max_uploads=3, memory_bytes=100)), [], [], []

    async def upload(number, size_bytes):
        async with slots.hold(size_bytes):
            order.append(number)
            held.append(min(size_bytes, 100))
            most.append((len(held), sum(held)))
            for _ in range(3):
                await asyncio.sleep(0)
            held.remove(min(size_bytes, 100))

    sizes = [10, 10, 10, 10, 90, 500, 1, 60, 60]
    await asyncio.gather(*(upload(number, size) for number, size in enumerate(sizes)))
    assert order == list(range(len(sizes)))
    assert max(count for count, _ in most) == 3
    assert max(size for _, size in most) == 100


async def test_upload_slots_cancelled_waiter_releases_its_turn():
    slots = UploadSlots(UploadOptions(max_uploads=1, memory_bytes=100))
    async with slots.hold(1):
        waiting = asyncio.ensure_future(slots.hold(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    async with asyncio.timeout(5), slots.hold(100):
        pass


@pytest.mark.parametrize(
    ("url", "env", "problem"),
    [
        ("s3://", {}, "expected s3://BUCKET"),
        ("s3://bucket?x=1", {}, "expected s3://BUCKET"),
        ("gs://bucket/a/../b", {}, "a relative segment"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://store.example"}, "AWS_ENDPOINT_URL: expected https://"),
    ],
)
def test_create_store_rejects_the_url_or_the_endpoint(url, env, problem):
    with pytest.raises(ValueError, match=problem):
        create_store(url, env=env)


@pytest.mark.parametrize(
    "env",
    [{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, {"AWS_ENDPOINT_URL": "http://x", "AWS_ALLOW_HTTP": "true"}],
)
def test_create_store_accepts_http_on_this_machine_or_if_it_is_allowed(env):
    assert create_store("s3://bucket/some/prefix", env=env).prefix == "some/prefix"


def test_build_attributes_describe_the_content_and_its_source():
    digest = Digest("crc32c", "AAAAAA==")
    file = CommittedFile("a/b.tar.gz", 1, digest, Validator('"1"', None, "7"), "https://storage/ünï")
    attributes = build_attributes(file)
    assert attributes["Content-Type"] == "application/gzip"
    assert parse_digest(attributes) == digest
    source = json.loads(base64.b64decode(attributes["bulkdlsource"]))
    assert source == {"etag": '"1"', "generation": "7", "source": "https://storage/ünï"}
    assert all(key.isalpha() and key.islower() for key in attributes if key != "Content-Type")
    assert all(value.isascii() for value in attributes.values())


def test_build_attributes_with_a_long_url_keep_the_validators():
    file = CommittedFile(
        "a", 1, Digest("crc32c", "AAAAAA=="), Validator('"1"'), "https://storage/" + "x" * 5000
    )
    attributes = build_attributes(file)
    assert json.loads(base64.b64decode(attributes["bulkdlsource"])) == {"etag": '"1"'}
    assert sum(len(key) + len(value) for key, value in attributes.items()) < 2048


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a/x.JSON", "application/json"), ("x", "application/octet-stream"), ("x.tar", "application/x-tar")],
)
def test_content_type_follows_the_suffix(key, expected):
    assert content_type(key) == expected


@pytest.mark.parametrize(
    "attributes", [{}, {"bulkdldigest": ""}, {"bulkdldigest": "sha1=x"}, {"bulkdldigest": "crc32c="}]
)
def test_parse_digest_of_a_foreign_object_is_none(attributes):
    assert parse_digest(attributes) is None
