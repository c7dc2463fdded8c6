"""Uploads through a proxy that fails requests or changes bytes in front of SeaweedFS."""

import asyncio
import os

import pytest

from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.destinations.network import UploadOptions
from bulkdl.destinations.objectstore.destination import create_object_store
from bulkdl.errors import DestinationError
from bulkdl.failure_policy import ExitCode
from bulkdl.http.retry import RetryPolicy
from bulkdl.models import Reason
from bulkdl.state.storage import StateDirectory, Storage
from bulkdl.testing.destination_processes import OUTPUT, fill_partial_file, read_all, sample_file
from support.bucket_runs import bucket_environment
from support.s3_proxy import Reply

MIB = 1 << 20
KEY = "a/output.tar.gz"
LARGE = os.urandom(20 * MIB)
SLOW_DOWN = Reply(503, "SlowDown")


@pytest.fixture
def create_storage(bucket_url, proxy, tmp_path):
    def create(**changes):
        uploads = UploadOptions(retry_policy=RetryPolicy(max_attempts=3, base_s=0), **changes)
        state = StateDirectory(tmp_path / "state", bucket_url, setting="--state")
        state.prepare()
        options = state.destination_options
        object.__setattr__(options, "uploads", uploads)
        return Storage(create_object_store(bucket_url, options), state)

    return create


async def publish(storage, content, *, expected=None):
    path = storage.state.new_temp_path()
    path.write_bytes(content)
    file = sample_file(KEY, content if expected is None else expected)
    return await storage.destination.publish(CompletedFile(path), file)


@pytest.mark.parametrize("size_bytes", [1000, 20 * MIB])
async def test_publish_local_file_changed_publishes_nothing(create_storage, proxy, size_bytes):
    content = LARGE[:size_bytes]
    async with create_storage() as storage:
        with pytest.raises(DestinationError, match="checksum mismatch before the upload") as caught:
            await publish(storage, content[:-1] + bytes([content[-1] ^ 1]), expected=content)
        assert caught.value.reason is Reason.CHECKSUM_MISMATCH
        assert await read_all(storage) == {}
    assert proxy.count("POST", "uploads") == proxy.count("DELETE", "uploadId=") == (size_bytes > MIB)


@pytest.mark.parametrize("size_bytes", [1000, 20 * MIB])
async def test_publish_byte_changed_on_the_wire_is_sent_again(create_storage, proxy, size_bytes):
    content, flipped = LARGE[:size_bytes], []

    def flip(method, path, body):
        if method != "PUT" or flipped or len(body) < 1000:
            return None
        flipped.append(path)
        return body[:500] + bytes([body[500] ^ 1]) + body[501:]

    proxy.fault = flip
    async with create_storage() as storage:
        await publish(storage, content)
        assert await read_all(storage) == {KEY: content}
    assert len(flipped) == 1


@pytest.mark.parametrize("size_bytes", [1000, 20 * MIB])
async def test_publish_byte_always_changed_on_the_wire_publishes_nothing(create_storage, proxy, size_bytes):
    def flip(method, path, body):
        if method != "PUT" or len(body) < 1000:
            return None
        return body[:500] + bytes([body[500] ^ 1]) + body[501:]

    proxy.fault = flip
    async with create_storage() as storage:
        with pytest.raises(DestinationError, match="BadDigest") as caught:
            await publish(storage, LARGE[:size_bytes])
        assert caught.value.reason is Reason.PUBLISH_FAILED
        assert await read_all(storage) == {}
    assert proxy.count("POST", "uploads") == proxy.count("DELETE", "uploadId=")


async def test_publish_cancelled_removes_the_parts(create_storage, proxy):
    arrived, loop = asyncio.Event(), asyncio.get_running_loop()

    def hold(method, path, body):
        if method == "PUT" and "partNumber" in path:
            loop.call_soon_threadsafe(arrived.set)

    proxy.fault = hold
    async with create_storage() as storage:
        upload = asyncio.ensure_future(publish(storage, LARGE * 4))
        await arrived.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert await read_all(storage) == {}
    assert proxy.count("POST", "uploads") == proxy.count("DELETE", "uploadId=") == 1


async def test_publish_throttled_store_gets_every_object(create_storage, proxy):
    puts = []

    def throttle(method, path, body):
        if method in ("PUT", "POST"):
            puts.append(path)
            return SLOW_DOWN if len(puts) % 5 == 0 else None
        return None

    proxy.fault = throttle
    documents = {f"{number}.json": b"x" * number for number in range(40)}
    async with create_storage() as storage:
        await storage.destination.write_documents(documents)
        assert await read_all(storage) == documents


async def test_publish_verification_read_detects_a_changed_object(create_storage, proxy):
    def truncate_reads(method, path, body):
        return Reply(200, "other") if method == "GET" and KEY in path else None

    proxy.fault = truncate_reads
    async with create_storage(verification="read") as storage:
        with pytest.raises(DestinationError) as caught:
            await publish(storage, b"content" * 1000)
        assert caught.value.reason is Reason.PUBLISH_FAILED


async def test_publish_without_verification_sends_one_request(create_storage, proxy):
    async with create_storage(verification="none") as storage:
        await publish(storage, b"content")
    assert [method for method, _ in proxy.requests] == ["PUT"]


async def test_publish_large_object_has_few_parts_in_memory(create_storage, proxy):
    waiting, most = set(), 0

    async def count(method, path, body):
        nonlocal most
        if "partNumber" in path:
            waiting.add(path)
            most = max(most, len(waiting))
            await asyncio.sleep(0.05)
            waiting.discard(path)

    proxy.fault = count
    async with create_storage(memory_bytes=32 * MIB) as storage:
        await asyncio.gather(*(publish(storage, LARGE) for _ in range(3)))
    assert 1 <= most <= 2


async def test_copy_above_the_limit_of_the_store_uploads_again(create_storage, monkeypatch, proxy):
    monkeypatch.setattr("bulkdl.destinations.objectstore.destination.MAX_COPY_BYTES", MIB)
    async with create_storage() as storage:
        await publish(storage, LARGE)
        info = await storage.destination.copy(KEY, "b/c")
        assert await read_all(storage) == {KEY: LARGE, "b/c": LARGE}
        assert info.digest == sample_file(KEY, LARGE).digest
    assert proxy.count("POST", "b/c?uploads") == 1


async def test_run_throttled_store_gets_every_object_with_one_cooldown_at_a_time(
    bucket_url, proxy, tmp_path, caplog
):
    changes, first, answered = [], [], []

    def throttle(method, path, body):
        if method not in ("PUT", "POST") or path.endswith("/probe"):
            return None
        changes.append(path)
        first.append(path) if not first else None
        if path == first[0] and len(answered) < 4:  # the client gives up, and the cooldown starts
            answered.append(path)
            return SLOW_DOWN
        return SLOW_DOWN if len(changes) % 5 == 0 else None

    proxy.fault = throttle
    async with bucket_environment(bucket_url, tmp_path) as site:
        summary = await site.run(retry_base_delay=0.2, retries=7)
        assert (summary.exit_code, summary.failures, summary.problems) == (ExitCode.OK, [], [])
        assert site.read_files() == site.expected_files()
        assert site.storage_bytes() == site.object_bytes()
    assert len(answered) == 4
    cooldowns = [record for record in caplog.records if "rate_limit.cooldown" in record.getMessage()]
    assert cooldowns


async def test_run_failed_uploads_are_repeated_without_a_download(bucket_url, proxy, tmp_path):
    async with bucket_environment(bucket_url, tmp_path) as site:
        proxy.fault = lambda method, path, body: (
            Reply(400, "Scripted") if method == "PUT" and "output.tar.gz" in path else None
        )
        summary = await site.run()
        assert summary.exit_code is ExitCode.TEMPORARY
        assert {failure.reason for failure in summary.failures} == {Reason.PUBLISH_FAILED}
        assert site.storage_bytes() == site.object_bytes()
        proxy.fault = lambda method, path, body: None
        summary = await site.run()
        assert (summary.exit_code, site.storage_bytes()) == (ExitCode.OK, 0)
        assert site.read_files() == site.expected_files()
        assert list((site.state / "parts").iterdir()) == []


@pytest.mark.parametrize(
    ("reply", "exit_code"),
    [
        (Reply(403, "AccessDenied"), ExitCode.CREDENTIALS),
        (Reply(507, "InsufficientStorage"), ExitCode.DISK_FULL),
        (Reply(404, "NoSuchBucket"), ExitCode.USAGE),
    ],
)
async def test_run_store_that_rejects_all_uploads_ends_the_run(bucket_url, proxy, tmp_path, reply, exit_code):
    async with bucket_environment(bucket_url, tmp_path) as site:
        proxy.fault = lambda method, path, body: (
            reply if method == "PUT" and "output.tar.gz" in path else None
        )
        summary = await site.run()
        assert summary.exit_code is exit_code
        proxy.fault = lambda method, path, body: None
        assert (await site.run()).exit_code is ExitCode.OK
        assert site.read_files() == site.expected_files()


async def test_partial_file_of_an_uploaded_object_is_adopted_with_one_request(create_storage, proxy):
    async with create_storage() as storage:
        await fill_partial_file(storage, LARGE)
        partial_file = storage.partial_file(OUTPUT)
        await partial_file.load()
        committed = await partial_file.commit(sample_file(KEY, LARGE))
        proxy.requests.clear()
        assert await storage.partial_file(OUTPUT).load() == committed
    assert [method for method, _ in proxy.requests] == ["HEAD"]
