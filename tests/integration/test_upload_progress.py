"""Progress, bandwidth limit, cooldown and stalls of uploads, with the client of GCS and a fake."""

import asyncio
import os
import threading
from dataclasses import replace

import pytest

from bulkdl import Downloader, Settings
from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.destinations.network import NullUploadMonitor, UploadOptions
from bulkdl.destinations.objectstore import upload
from bulkdl.destinations.objectstore.calls import StoreCalls
from bulkdl.destinations.objectstore.destination import create_object_store
from bulkdl.errors import DestinationError
from bulkdl.graph.upload_options import RunUploadMonitor
from bulkdl.http.retry import RetryPolicy
from bulkdl.models import Reason
from bulkdl.state.storage import StateDirectory, Storage
from bulkdl.telemetry.events import UploadAdvanced
from bulkdl.testing.destination_processes import read_all, sample_file
from support.gcs_fake import run_gcs_fake
from support.library_runs import TAME, library_environment

MIB = 1 << 20
LARGE = os.urandom(20 * MIB)
KEY = "a/output.tar"


class RecordingMonitor(NullUploadMonitor):
    def __init__(self):
        self.acquired, self.progress = [], []

    async def acquire(self, size_bytes):
        self.acquired.append(size_bytes)

    def sent(self, key, offset_bytes, total_bytes, new_bytes):
        self.progress.append((key, offset_bytes, total_bytes, new_bytes))


@pytest.fixture
def gcs(monkeypatch):
    with run_gcs_fake() as fake:
        for name, value in fake.env().items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
def create_storage(gcs, tmp_path):
    def create(**changes):
        policy = RetryPolicy(max_attempts=3, base_s=0)
        state = StateDirectory(tmp_path / "state", "gs://outputs/x", setting="--state")
        state.prepare()
        uploads = UploadOptions(retry_policy=policy, **changes)
        options = replace(state.destination_options, uploads=uploads)
        return Storage(create_object_store("gs://outputs/x", options), state)

    return create


async def publish(storage, content):
    path = storage.state.new_temp_path()
    path.write_bytes(content)
    await storage.destination.publish(CompletedFile(path), sample_file(KEY, content))


async def test_publish_reports_the_progress_and_acquires_the_bandwidth(create_storage):
    monitor = RecordingMonitor()
    async with create_storage(monitor=monitor) as storage:
        await publish(storage, LARGE)
        await storage.destination.write_documents({"job.json": b"{}"})
    assert monitor.progress == [
        *((KEY, number * 4 * MIB, 20 * MIB, 4 * MIB) for number in range(1, 6)),
        ("job.json", 2, 2, 2),
    ]
    assert monitor.acquired == [*(4 * MIB for _ in range(5)), 2]


async def test_publish_waits_for_the_bandwidth_before_each_block(create_storage):
    allowed, is_waiting = asyncio.Semaphore(2), asyncio.Event()

    class Limited(RecordingMonitor):
        async def acquire(self, size_bytes):
            await super().acquire(size_bytes)
            if allowed.locked():
                is_waiting.set()
            await allowed.acquire()

    monitor = Limited()
    async with create_storage(monitor=monitor) as storage:
        publishing = asyncio.ensure_future(publish(storage, LARGE))
        await is_waiting.wait()
        assert len(monitor.progress) == 2
        assert not publishing.done()
        for _ in range(3):
            allowed.release()
        await publishing
        assert await read_all(storage) == {KEY: LARGE}


async def test_publish_without_progress_is_repeated(create_storage, gcs, monkeypatch):
    monkeypatch.setattr(upload, "_STOP_TIMEOUT_S", 0.05)
    hanging, released = [], threading.Event()

    async def hang_in_first_upload(method, path):
        if method == "PUT" and "partNumber" in path and len(gcs.uploads) == 1 and len(hanging) < 3:
            hanging.append(path)
            await asyncio.to_thread(released.wait, 30)

    gcs.fault = hang_in_first_upload
    try:
        async with create_storage(stall_timeout_s=0.5) as storage:
            await publish(storage, LARGE)
            assert await read_all(storage) == {KEY: LARGE}
    finally:
        released.set()
    assert sum(method == "POST" and "?uploads" in path for method, path in gcs.requests) >= 2


async def test_publish_that_always_stalls_fails_and_keeps_the_file(create_storage, gcs, monkeypatch):
    monkeypatch.setattr(upload, "_STOP_TIMEOUT_S", 0.05)
    released = threading.Event()

    async def hang(method, path):
        if method == "PUT" and "partNumber" in path:
            await asyncio.to_thread(released.wait, 30)

    gcs.fault = hang
    try:
        async with create_storage(stall_timeout_s=0.2) as storage:
            with pytest.raises(DestinationError, match=r"timed out: no progress for 0\.2 seconds") as caught:
                await publish(storage, LARGE)
            assert caught.value.reason is Reason.PUBLISH_FAILED
            assert [path.stat().st_size for path in storage.state.partial_folder.iterdir()] == [20 * MIB]
    finally:
        released.set()


async def test_throttled_call_pauses_all_calls():
    loop, calls = asyncio.get_running_loop(), StoreCalls("gs://b", RetryPolicy(max_attempts=3, base_s=0.3))
    called, is_throttled = {}, asyncio.Event()

    async def call(name):
        called.setdefault(name, []).append(loop.time())
        is_throttled.set()
        if name == "first" and len(called[name]) == 1:
            raise DestinationError(Reason.THROTTLED, "SlowDown")

    first = asyncio.ensure_future(calls.repeat("first", lambda: call("first")))
    await is_throttled.wait()
    await asyncio.gather(first, *(calls.repeat(name, lambda name=name: call(name)) for name in "abc"))
    assert len(called["first"]) == 2
    paused = [called["first"][1], *(called[name][0] for name in "abc")]
    assert min(paused) - called["first"][0] >= 0.29


class Events:
    def __init__(self):
        self.all = []

    def report(self, event):
        self.all.append(event)


async def test_run_reports_uploads_and_limits_their_bandwidth(gcs, tmp_path, monkeypatch):
    limits, acquire = [], RunUploadMonitor.acquire

    async def record(monitor, size_bytes):
        limits.append((monitor.bandwidth.burst, size_bytes))
        await acquire(monitor, size_bytes)

    monkeypatch.setattr(RunUploadMonitor, "acquire", record)
    async with library_environment(tmp_path, TAME) as site:
        settings = Settings(
            api_url=site.simulator.api_url,
            output="gs://outputs/x",
            state=tmp_path / "state",
            bwlimit="1G",
            rate=0,
        )
        events = Events()
        async with Downloader(settings, credentials=site.credentials, reporter=events) as downloader:
            summary = await downloader.run()
    sent = [event for event in events.all if isinstance(event, UploadAdvanced)]
    objects = {key: stored.data for key, stored in gcs.buckets["outputs"].items()}
    assert summary.failures == []
    assert {event.key for event in sent} <= {key.removeprefix("x/") for key in objects}
    assert all(len(objects[f"x/{event.key}"]) == event.total_bytes for event in sent)
    assert {burst for burst, _ in limits} == {1 << 30}
    assert sum(size for _, size in limits) == sum(event.sent_bytes for event in sent)
