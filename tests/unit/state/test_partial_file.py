"""Partial files: bytes of one object with the validator of that object, after a crash at any step."""

import asyncio
import errno
import json
import os
import shutil
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import aiofiles
import pytest

from bulkdl.concurrency import Executors
from bulkdl.errors import DestinationError
from bulkdl.models import CommittedFile, Digest, Reason, RemoteObject, ResumeState, Validator
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.state.storage import create_storage
from support.idle import wait_until_idle

OUTPUT = job_output("p", "j", "t", Kind.ARCHIVE)
OLD, NEW = b"old!" * 5_000, b"NEW?" * 6_000
KEY = "p/j/t/task_output.tar.gz"


def remote_object(body, etag):
    return RemoteObject(
        "https://s/o", Validator(etag, "date", "7"), len(body), (Digest("crc32c", "AAAAAA=="),)
    )


V1, V2 = remote_object(OLD, '"v1"'), remote_object(NEW, '"v2"')
BODIES = {'"v1"': OLD, '"v2"': NEW}


def committed_file(of, body):
    return CommittedFile(KEY, len(body), Digest("crc32c", "x"), of.validator, of.source)


@pytest.fixture
def storage(tmp_path):
    created = create_storage(tmp_path / "out")
    created.state.prepare()
    return created


def files(storage):
    return sorted(
        path.name.partition("-")[2] or path.suffix for path in storage.state.partial_folder.iterdir()
    )


async def fill(partial, of, body, blocks=3):
    await partial.create(of)
    size = len(body) // blocks
    for number in range(blocks):
        end = (number + 1) * size if number < blocks - 1 else len(body)
        await partial.write(body[number * size : end])
    await partial.flush_and_close()


async def test_load_after_create_returns_object_and_offset(storage):
    partial = storage.partial_file(OUTPUT)
    assert await partial.load() is None
    await fill(partial, V1, OLD)
    assert await storage.partial_file(OUTPUT).load() == ResumeState(V1, len(OLD))
    assert await storage.partial_file(job_output("p", "j", "u", Kind.ARCHIVE)).load() is None


async def test_write_after_load_appends_to_the_bytes_of_an_earlier_run(storage):
    first = storage.partial_file(OUTPUT)
    await first.create(V1)
    await first.write(OLD[:7000])
    await first.flush_and_close()
    second = storage.partial_file(OUTPUT)
    assert await second.load() == ResumeState(V1, 7000)
    await second.write(OLD[7000:9000])
    await second.write(OLD[9000:])
    assert await second.read(lambda stream: stream.read()) == OLD
    assert await second.read_head(10) == OLD[:10]
    await second.commit(committed_file(V1, OLD))
    assert (storage.destination.root / KEY).read_bytes() == OLD


async def test_create_for_a_new_object_discards_the_old_bytes(storage):
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    await partial.write(OLD)
    await partial.create(V2)  # with a write in progress and an open stream
    await partial.write(NEW[:5000])
    await partial.write(NEW[5000:])
    await partial.commit(committed_file(V2, NEW))
    assert (storage.destination.root / KEY).read_bytes() == NEW


async def test_commit_of_a_body_in_memory_creates_no_partial_file(storage):
    await storage.partial_file(OUTPUT).commit(committed_file(V1, OLD), OLD)
    assert (storage.destination.root / KEY).read_bytes() == OLD
    assert files(storage) == []


async def test_load_after_commit_returns_the_committed_file_until_forget(storage):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD)
    await partial.commit(committed_file(V1, OLD))
    assert await storage.partial_file(OUTPUT).load() == committed_file(V1, OLD)
    await storage.partial_file(OUTPUT).forget()
    await storage.partial_file(OUTPUT).forget()
    assert await storage.partial_file(OUTPUT).load() is None
    assert files(storage) == []


@pytest.mark.parametrize("corrupt", [Path.unlink, lambda path: path.write_bytes(b"changed")])
async def test_load_after_commit_returns_none_if_the_file_is_missing_or_changed(storage, corrupt):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD)
    await partial.commit(committed_file(V1, OLD))
    corrupt(storage.destination.root / KEY)
    assert await storage.partial_file(OUTPUT).load() is None


async def test_discard_removes_all_files(storage):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD)
    await storage.partial_file(OUTPUT).discard()
    assert await storage.partial_file(OUTPUT).load() is None
    assert files(storage) == []


@pytest.mark.parametrize("corrupt", ["too long", "no map"])
async def test_commit_in_memory_after_an_invalid_partial_file_uses_only_the_body(storage, corrupt):
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1, segmented=corrupt == "no map")
    if corrupt == "no map":
        await partial.write_at(0, [OLD])
        next(storage.state.partial_folder.glob("*.map")).unlink()
    else:
        await fill(partial, V1, OLD)
        await partial.write(b"more")
    await partial.flush_and_close()
    reopened = storage.partial_file(OUTPUT)
    assert await reopened.load() is None
    await reopened.commit(committed_file(V2, b"small"), b"small")
    assert storage.destination.locate(KEY).read_bytes() == b"small"


def as_json(change):
    return lambda good: json.dumps(change(good)).encode()


def without(name):
    return as_json(lambda good: {key: good[key] for key in good if key != name})


INVALID_SIDECARS = {
    **{repr(text): lambda _, text=text: text for text in (b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"{}")},
    **{f"no {name}": without(name) for name in ("data", "source", "validator", "total_bytes", "digests")},
    **{
        f"{name} is {value}": as_json(lambda good, name=name, value=value: {**good, name: value})
        for name, value in (
            *(("data", None), ("data", 5), ("data", ""), ("data", "."), ("data", "..")),
            *(("validator", None), ("digests", None)),
            ("validator", {"etag": "x", "color": "blue"}),
        )
    },
}


@pytest.mark.parametrize("how", INVALID_SIDECARS)
async def test_load_with_invalid_sidecar_returns_none_and_removes_it(storage, how):
    await fill(storage.partial_file(OUTPUT), V1, OLD)
    path = next(storage.state.partial_folder.glob("*.json"))
    path.write_bytes(INVALID_SIDECARS[how](json.loads(path.read_bytes())))
    assert await storage.partial_file(OUTPUT).load() is None
    assert files(storage) == []
    reopened = storage.partial_file(OUTPUT)
    await fill(reopened, V2, NEW)
    assert await storage.partial_file(OUTPUT).load() == ResumeState(V2, len(NEW))
    assert len(files(storage)) == 2


@pytest.mark.parametrize(
    "committed", [None, {}, {"key": 5}, {"key": None, "size_bytes": 1, "digest": {}}, "x"]
)
async def test_load_with_invalid_committed_file_returns_none_and_removes_it(storage, committed):
    await fill(storage.partial_file(OUTPUT), V1, OLD)
    [path] = storage.state.partial_folder.glob("*.json")
    sidecar = json.loads(path.read_bytes())
    (storage.state.partial_folder / sidecar["data"]).unlink()
    path.write_text(json.dumps({**sidecar, "committed": committed}))
    assert await storage.partial_file(OUTPUT).load() is None
    assert files(storage) == []


async def test_commit_with_missing_data_file_fails(storage):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD)
    next(storage.state.partial_folder.glob("*.part")).unlink()
    with pytest.raises(DestinationError):
        await partial.commit(committed_file(V1, OLD))
    assert not storage.destination.locate(KEY).exists()


async def test_remove_stale_temp_files_removes_data_files_without_sidecar(storage):
    def list_paths():
        return set(storage.state.partial_folder.iterdir())

    await fill(storage.partial_file(OUTPUT), V1, OLD)
    before = list_paths()
    killed = storage.partial_file(replace(OUTPUT, parent="other"))
    await killed.create(V1, segmented=True)
    await killed.write_at(0, [OLD])
    [sidecar] = [path for path in list_paths() - before if path.suffix == ".json"]
    sidecar.unlink()
    assert len(list_paths() - before) == 2
    storage.state.remove_stale_temp_files()
    assert list_paths() == before


async def test_load_ignores_a_data_path_outside_the_folder(storage):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD)
    (storage.destination.root / "outside").write_bytes(b"x")
    path = next(storage.state.partial_folder.glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "data": "../../outside"}))
    assert await storage.partial_file(OUTPUT).load() is None


async def test_load_with_more_bytes_than_the_object_returns_none(storage):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD + b"!")
    assert await storage.partial_file(OUTPUT).load() is None


class Killed(BaseException):
    """The simulated end of the process."""


class Killer:
    """Raise Killed at the n-th step that changes the disk."""

    def __init__(self, monkeypatch, step_number):
        self.remaining_steps = step_number
        for owner, name in (
            (os, "fsync"),
            (os, "open"),
            (os, "write"),
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "touch"),
            (Path, "mkdir"),
            (Path, "open"),
        ):
            monkeypatch.setattr(owner, name, self._wrap(getattr(owner, name)))

    def _wrap(self, step):
        def wrapped(*args, **kwargs):
            self.remaining_steps -= 1
            if self.remaining_steps == 0:
                raise Killed
            return step(*args, **kwargs)

        return wrapped


async def replace_and_commit(storage):
    partial = storage.partial_file(OUTPUT)
    await partial.load()
    await fill(partial, V2, NEW)
    await partial.commit(committed_file(V2, NEW))
    await partial.forget()


async def test_replace_and_commit_killed_at_any_step_keeps_bytes_and_validator_together(
    tmp_path, monkeypatch
):
    crashes = 0
    for step_number in range(1, 100):
        storage = create_storage(tmp_path / str(step_number))
        storage.state.prepare()
        await fill(storage.partial_file(OUTPUT), V1, OLD[:7000])
        with monkeypatch.context() as patch:
            Killer(patch, step_number)
            try:
                await replace_and_commit(storage)
            except Killed:
                crashes += 1
            else:
                break
        final = storage.destination.root / KEY
        found = await storage.partial_file(OUTPUT).load()
        if isinstance(found, ResumeState):
            data = next(
                path
                for path in storage.state.partial_folder.glob("*.part")
                if path.stat().st_size == found.offset
            )
            assert BODIES[found.object.validator.etag].startswith(data.read_bytes())
        if isinstance(found, CommittedFile):
            assert found == committed_file(V2, NEW)
        if final.exists():
            assert final.read_bytes() == NEW
        await replace_and_commit(storage)
        assert final.read_bytes() == NEW
        assert files(storage) == []
    assert crashes > 12


async def test_commit_on_a_full_disk_keeps_a_resumable_partial_file(storage, monkeypatch):
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    await partial.write(OLD[:7000])
    await partial.flush_and_close()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DestinationError) as raised:
            await partial.commit(committed_file(V1, OLD))
        assert raised.value.reason is Reason.DISK_FULL
    assert not (storage.destination.root / KEY).exists()
    found = await storage.partial_file(OUTPUT).load()
    assert isinstance(found, ResumeState)
    assert found.object == V1
    assert 7000 <= found.offset <= len(OLD)


async def test_write_after_a_failed_write_raises_its_error_and_writes_nothing(storage):
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    data = next(storage.state.partial_folder.glob("*.part"))
    data.unlink()
    data.symlink_to("/dev/full")
    await partial.write(OLD[:4000])
    with pytest.raises(DestinationError) as raised:
        await partial.write(OLD[4000:8000])
    assert raised.value.reason is Reason.DISK_FULL
    await partial.flush_and_close()


async def test_write_with_missing_folder_is_a_disk_error(storage):
    partial = storage.partial_file(OUTPUT)
    await fill(partial, V1, OLD)
    shutil.rmtree(storage.destination.root)
    with pytest.raises(DestinationError) as raised:
        await partial.write(b"more")
    assert raised.value.reason is Reason.DISK_ERROR
    await partial.discard()


async def test_create_without_enough_disk_space_fails_before_the_download(storage, monkeypatch):
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, len(OLD) + 1000))
    with pytest.raises(DestinationError, match=f"{len(OLD)} bytes needed, {len(OLD) + 1000} free") as raised:
        await storage.partial_file(OUTPUT).create(V1)
    assert raised.value.reason is Reason.DISK_FULL
    assert files(storage) == []
    await storage.partial_file(OUTPUT).create(RemoteObject(None, Validator(), None))


async def test_write_cancelled_while_opening_leaves_no_open_file(storage, monkeypatch):
    started, may_open, streams = asyncio.Event(), asyncio.Event(), []
    open_file = aiofiles.open

    async def slow(*args, **kwargs):
        started.set()
        await may_open.wait()
        streams.append(await open_file(*args, **kwargs))
        return streams[0]

    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    monkeypatch.setattr(aiofiles, "open", slow)
    writer = asyncio.create_task(partial.write(OLD))
    await started.wait()
    writer.cancel()
    await asyncio.wait([writer])
    may_open.set()
    await partial.flush_and_close()
    assert writer.cancelled()
    assert [stream.closed for stream in streams] == [True]


async def test_flush_cancelled_while_its_close_waits_for_a_thread_closes_the_file(tmp_path):
    executors, may_end = Executors(disk_threads=1), threading.Event()
    storage = create_storage(tmp_path / "out", executors=executors)
    storage.state.prepare()
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    await partial.write(OLD)
    await partial._await_pending_write()
    stream = partial._stream
    executors.disk.submit(may_end.wait)
    pausing = asyncio.create_task(partial.flush_and_close())
    await wait_until_idle()
    pausing.cancel()
    await wait_until_idle()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    assert stream.closed
    executors.close()


async def test_write_cancelled_keeps_complete_blocks(storage):
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    await partial.write(OLD[:10_000])
    writer = asyncio.create_task(partial.write(OLD[10_000:]))
    await asyncio.sleep(0)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    await partial.flush_and_close()
    found = await storage.partial_file(OUTPUT).load()
    assert found.offset in (10_000, len(OLD))
    assert await partial.read(lambda stream: stream.read()) == OLD[: found.offset]


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "full")])
async def test_flush_cancelled_during_a_write_leaves_its_result_to_the_next_call(storage, error):
    partial = storage.partial_file(OUTPUT)
    await partial.create(V1)
    await partial.write(OLD[:10_000])
    await partial._await_pending_write()
    stream = partial._stream
    partial._writing = asyncio.get_running_loop().create_future()
    pausing = asyncio.create_task(partial.flush_and_close())
    await wait_until_idle()
    if error is not None:
        partial._writing.set_exception(error)
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    assert not stream.closed
    if error is not None:
        with pytest.raises(DestinationError):
            await partial.write(OLD[10_000:])
    else:
        partial._writing.set_result(None)
    await partial.flush_and_close()
    assert stream.closed
    assert await partial.read(lambda data: data.read()) == OLD[:10_000]
