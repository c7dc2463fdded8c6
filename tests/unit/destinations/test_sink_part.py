"""The part: bytes of one object beside that object's validator, whatever is killed when."""

import asyncio
import errno
import json
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import aiofiles
import pytest

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import DestinationError
from bulkdl.models import CommittedFile, Digest, Kind, Output, Reason, RemoteObject, ResumeState, Validator
from support.idle import wait_until_idle

OUTPUT = Output("p", "j", "t", Kind.ARCHIVE)
OLD, NEW = b"old!" * 5_000, b"NEW?" * 6_000
KEY = "p/j/t/task_output.tar.gz"


def stored(body, etag):
    return RemoteObject(
        "https://s/o", Validator(etag, "date", "7"), len(body), (Digest("crc32c", "AAAAAA=="),)
    )


V1, V2 = stored(OLD, '"v1"'), stored(NEW, '"v2"')
BODIES = {'"v1"': OLD, '"v2"': NEW}


def receipt(of, body):
    return CommittedFile(KEY, len(body), Digest("crc32c", "x"), of.validator, of.source)


@pytest.fixture
def sink(tmp_path):
    made = LocalDestination(tmp_path / "out")
    made.prepare()
    return made


def files(sink):
    return sorted(path.name.partition("-")[2] or path.suffix for path in sink.state.partial_folder.iterdir())


async def fill(part, of, body, blocks=3):
    await part.create(of)
    for at in range(blocks):
        size = len(body) // blocks
        await part.write(body[at * size : (at + 1) * size if at < blocks - 1 else len(body)])
    await part.flush_and_close()


async def test_a_part_is_found_again_with_its_object(sink):
    part = sink.partial_file(OUTPUT)
    assert await part.load() is None
    await fill(part, V1, OLD)
    assert await sink.partial_file(OUTPUT).load() == ResumeState(V1, len(OLD))
    assert await sink.partial_file(Output("p", "j", "u", Kind.ARCHIVE)).load() is None


async def test_bytes_go_on_behind_those_of_an_earlier_run(sink):
    first = sink.partial_file(OUTPUT)
    await first.create(V1)
    await first.write(OLD[:7000])
    await first.flush_and_close()
    second = sink.partial_file(OUTPUT)
    assert await second.load() == ResumeState(V1, 7000)
    await second.write(OLD[7000:9000])
    await second.write(OLD[9000:])
    assert await second.read(lambda stream: stream.read()) == OLD
    assert await second.read_head(10) == OLD[:10]
    await second.commit(receipt(V1, OLD))
    assert (sink.root / KEY).read_bytes() == OLD


async def test_a_new_object_never_gets_bytes_of_the_old_one(sink):
    part = sink.partial_file(OUTPUT)
    await part.create(V1)
    await part.write(OLD)
    await part.create(V2)  # with a write under way and a stream open
    await part.write(NEW[:5000])
    await part.write(NEW[5000:])
    await part.commit(receipt(V2, NEW))
    assert (sink.root / KEY).read_bytes() == NEW


async def test_a_small_output_needs_no_part(sink):
    await sink.partial_file(OUTPUT).commit(receipt(V1, OLD), OLD)
    assert (sink.root / KEY).read_bytes() == OLD
    assert files(sink) == []


async def test_what_was_committed_is_remembered_until_it_is_recorded(sink):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD)
    await part.commit(receipt(V1, OLD))
    assert await sink.partial_file(OUTPUT).load() == receipt(V1, OLD)
    await sink.partial_file(OUTPUT).forget()
    await sink.partial_file(OUTPUT).forget()
    assert await sink.partial_file(OUTPUT).load() is None
    assert files(sink) == []


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"changed")])
async def test_a_committed_file_that_is_gone_or_changed_is_not_adopted(sink, spoil):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD)
    await part.commit(receipt(V1, OLD))
    spoil(sink.root / KEY)
    assert await sink.partial_file(OUTPUT).load() is None


async def test_discarded_bytes_are_gone(sink):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD)
    await sink.partial_file(OUTPUT).discard()
    assert await sink.partial_file(OUTPUT).load() is None
    assert files(sink) == []


@pytest.mark.parametrize("spoil", ["too long", "no map"])
async def test_what_is_no_part_is_in_no_file(sink, spoil):
    """Not even when what comes next is so small that it needs none."""
    part = sink.partial_file(OUTPUT)
    await part.create(V1, divided=spoil == "no map")
    if spoil == "no map":
        await part.write_at(0, [OLD])
        next(sink.state.partial_folder.glob("*.map")).unlink()
    else:
        await fill(part, V1, OLD)
        await part.write(b"more")
    await part.flush_and_close()
    again = sink.partial_file(OUTPUT)
    assert await again.load() is None
    await again.commit(receipt(V2, b"small"), b"small")
    assert sink.locate(KEY).read_bytes() == b"small"


def as_json(change):
    return lambda good: json.dumps(change(good)).encode()


def without(name):
    return as_json(lambda good: {key: good[key] for key in good if key != name})


SPOILT = {
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


@pytest.mark.parametrize("how", SPOILT)
async def test_a_sidecar_that_cannot_be_read_counts_for_nothing_and_goes(sink, how):
    await fill(sink.partial_file(OUTPUT), V1, OLD)
    path = next(sink.state.partial_folder.glob("*.json"))
    path.write_bytes(SPOILT[how](json.loads(path.read_bytes())))
    assert await sink.partial_file(OUTPUT).load() is None
    assert files(sink) == []
    again = sink.partial_file(OUTPUT)
    await fill(again, V2, NEW)
    assert await sink.partial_file(OUTPUT).load() == ResumeState(V2, len(NEW))
    assert len(files(sink)) == 2


@pytest.mark.parametrize(
    "committed", [None, {}, {"key": 5}, {"key": None, "size_bytes": 1, "digest": {}}, "x"]
)
async def test_a_receipt_that_cannot_be_read_counts_for_nothing_and_goes(sink, committed):
    await fill(sink.partial_file(OUTPUT), V1, OLD)
    [path] = sink.state.partial_folder.glob("*.json")
    told = json.loads(path.read_bytes())
    (sink.state.partial_folder / told["data"]).unlink()
    path.write_text(json.dumps({**told, "committed": committed}))
    assert await sink.partial_file(OUTPUT).load() is None
    assert files(sink) == []


async def test_commit_of_a_part_that_vanished_fails(sink):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD)
    next(sink.state.partial_folder.glob("*.part")).unlink()
    with pytest.raises(DestinationError):
        await part.commit(receipt(V1, OLD))
    assert not sink.locate(KEY).exists()


async def test_bytes_that_no_sidecar_tells_of_are_swept_away(sink):
    def there():
        return set(sink.state.partial_folder.iterdir())

    await fill(sink.partial_file(OUTPUT), V1, OLD)
    kept = there()
    killed = sink.partial_file(replace(OUTPUT, task_id="other"))
    await killed.create(V1, divided=True)
    await killed.write_at(0, [OLD])
    [sidecar] = [path for path in there() - kept if path.suffix == ".json"]
    sidecar.unlink()
    assert len(there() - kept) == 2
    sink.state.remove_stale_temp_files()
    assert there() == kept


async def test_a_sidecar_cannot_point_out_of_the_folder(sink):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD)
    (sink.root / "outside").write_bytes(b"x")
    path = next(sink.state.partial_folder.glob("*.json"))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "data": "../../outside"}))
    assert await sink.partial_file(OUTPUT).load() is None


async def test_more_bytes_than_the_object_has_are_no_part(sink):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD + b"!")
    assert await sink.partial_file(OUTPUT).load() is None


class Killed(BaseException):
    """The process is gone."""


class Executioner:
    """Kills at the n-th step that changes the disk."""

    def __init__(self, monkeypatch, at):
        self.left = at
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
            monkeypatch.setattr(owner, name, self._deadly(getattr(owner, name)))

    def _deadly(self, step):
        def wrapped(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise Killed
            return step(*args, **kwargs)

        return wrapped


async def replace_and_commit(sink):
    part = sink.partial_file(OUTPUT)
    await part.load()
    await fill(part, V2, NEW)
    await part.commit(receipt(V2, NEW))
    await part.forget()


async def test_killed_between_any_two_steps_bytes_and_validator_belong_together(tmp_path, monkeypatch):
    deaths = 0
    for at in range(1, 100):
        sink = LocalDestination(tmp_path / str(at))
        sink.prepare()
        await fill(sink.partial_file(OUTPUT), V1, OLD[:7000])
        with monkeypatch.context() as patch:
            Executioner(patch, at)
            try:
                await replace_and_commit(sink)
            except Killed:
                deaths += 1
            else:
                break
        final = sink.root / KEY
        found = await sink.partial_file(OUTPUT).load()
        if isinstance(found, ResumeState):
            data = next(
                path
                for path in sink.state.partial_folder.glob("*.part")
                if path.stat().st_size == found.offset
            )
            assert BODIES[found.object.validator.etag].startswith(data.read_bytes())
        if isinstance(found, CommittedFile):
            assert found == receipt(V2, NEW)
        if final.exists():
            assert final.read_bytes() == NEW
        await replace_and_commit(sink)
        assert final.read_bytes() == NEW
        assert files(sink) == []
    assert deaths > 12


async def test_a_full_disk_leaves_a_part_that_can_be_gone_on_with(sink, monkeypatch):
    part = sink.partial_file(OUTPUT)
    await part.create(V1)
    await part.write(OLD[:7000])
    await part.flush_and_close()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DestinationError) as raised:
            await part.commit(receipt(V1, OLD))
        assert raised.value.reason is Reason.DISK_FULL
    assert not (sink.root / KEY).exists()
    found = await sink.partial_file(OUTPUT).load()
    assert isinstance(found, ResumeState)
    assert found.object == V1
    assert 7000 <= found.offset <= len(OLD)


async def test_a_write_that_fails_is_told_at_the_next_step_and_nothing_follows_it(sink):
    part = sink.partial_file(OUTPUT)
    await part.create(V1)
    data = next(sink.state.partial_folder.glob("*.part"))
    data.unlink()
    data.symlink_to("/dev/full")
    await part.write(OLD[:4000])
    with pytest.raises(DestinationError) as raised:
        await part.write(OLD[4000:8000])
    assert raised.value.reason is Reason.DISK_FULL
    await part.flush_and_close()


async def test_a_folder_that_vanished_is_a_disk_error(sink):
    part = sink.partial_file(OUTPUT)
    await fill(part, V1, OLD)
    shutil.rmtree(sink.root)
    with pytest.raises(DestinationError) as raised:
        await part.write(b"more")
    assert raised.value.reason is Reason.DISK_ERROR
    await part.discard()


async def test_what_cannot_fit_is_refused_before_it_comes(sink, monkeypatch):
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, len(OLD) + 1000))
    with pytest.raises(DestinationError, match=f"{len(OLD)} bytes needed, {len(OLD) + 1000} free") as raised:
        await sink.partial_file(OUTPUT).create(V1)
    assert raised.value.reason is Reason.DISK_FULL
    assert files(sink) == []
    await sink.partial_file(OUTPUT).create(RemoteObject(None, Validator(), None))


async def test_who_is_cancelled_while_a_part_is_opened_leaves_no_file_open(sink, monkeypatch):
    opened, may_open, made = asyncio.Event(), asyncio.Event(), []
    open_file = aiofiles.open

    async def slow(*args, **kwargs):
        opened.set()
        await may_open.wait()
        made.append(await open_file(*args, **kwargs))
        return made[0]

    part = sink.partial_file(OUTPUT)
    await part.create(V1)
    monkeypatch.setattr(aiofiles, "open", slow)
    writer = asyncio.create_task(part.write(OLD))
    await opened.wait()
    writer.cancel()
    await asyncio.wait([writer])
    may_open.set()
    await part.flush_and_close()
    assert writer.cancelled()
    assert [stream.closed for stream in made] == [True]


async def test_a_cancelled_writer_waits_for_the_block_under_way(sink):
    part = sink.partial_file(OUTPUT)
    await part.create(V1)
    await part.write(OLD[:10_000])
    writer = asyncio.create_task(part.write(OLD[10_000:]))
    await asyncio.sleep(0)
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    await part.flush_and_close()
    found = await sink.partial_file(OUTPUT).load()
    assert found.offset in (10_000, len(OLD))
    assert await part.read(lambda stream: stream.read()) == OLD[: found.offset]


@pytest.mark.parametrize("error", [None, OSError(errno.ENOSPC, "full")])
async def test_who_is_cancelled_while_it_waits_for_a_write_leaves_its_end_to_the_next(sink, error):
    part = sink.partial_file(OUTPUT)
    await part.create(V1)
    await part.write(OLD[:10_000])
    await part._await_pending_write()
    stream = part._stream
    part._writing = asyncio.get_running_loop().create_future()
    pausing = asyncio.create_task(part.flush_and_close())
    await wait_until_idle()
    if error is not None:
        part._writing.set_exception(error)
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    assert not stream.closed
    if error is not None:
        with pytest.raises(DestinationError):
            await part.write(OLD[10_000:])
    else:
        part._writing.set_result(None)
    await part.flush_and_close()
    assert stream.closed
    assert await part.read(lambda each: each.read()) == OLD[:10_000]
