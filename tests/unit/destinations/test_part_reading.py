"""Reading a part again: on its own executor, and stopped by cancellation within one block."""

import asyncio
import threading

import pytest

from bulkdl import concurrency
from bulkdl.destinations.local import extent_map
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.models import Extent, Kind, Output, RemoteObject, ResumeState, Validator
from bulkdl.transfer import validation
from support.idle import wait_until_idle

ARCHIVE = Output("p", "j", "t", Kind.ARCHIVE)
GIB = 1 << 30


@pytest.fixture
def sink(tmp_path):
    made = LocalDestination(tmp_path / "out")
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def reads(monkeypatch):
    """Count the checked reads; the first one waits until *stop* is set."""
    seen = {"count": 0, "begun": threading.Event()}

    def waiting(stop):
        seen["count"] += 1
        seen["begun"].set()
        assert stop.wait(30)
        raise concurrency.ReadStopped

    monkeypatch.setattr(concurrency, "check_stop", waiting)
    return seen


def stored(total_bytes):
    return RemoteObject("https://s/o", Validator('"1"'), total_bytes)


async def cancel_while_reading(work, reads):
    task = asyncio.create_task(work)
    async with asyncio.timeout(30):
        await asyncio.to_thread(reads["begun"].wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert reads["count"] == 1


async def sparse_part(sink, size_bytes):
    part = sink.partial_file(ARCHIVE)
    await part.create(stored(size_bytes), divided=True)
    return part


async def test_read_cancelled_stops_the_inspection_of_an_archive(sink, reads):
    part = await sparse_part(sink, 64 << 20)
    await cancel_while_reading(
        part.read(lambda stream: validation.validate_content(Kind.ARCHIVE, stream, 64 << 20)), reads
    )


async def test_look_cancelled_stops_the_check_of_a_divided_part(sink, reads):
    part = await sparse_part(sink, 64 << 20)
    await part.write_at(0, [b"x" * 100_000])
    again = sink.partial_file(ARCHIVE)
    await cancel_while_reading(again.load(), reads)
    assert [path.suffix for path in sink.state.partial_folder.iterdir() if path.suffix == ".part"] == [
        ".part"
    ]


async def test_look_of_a_divided_part_keeps_the_extents_that_still_hold(sink):
    part = await sparse_part(sink, 8 << 20)
    await part.write_at(0, [b"a" * 3_000_000])
    await part.write_at(4_000_000, [b"b" * 1000])
    data = next(sink.state.partial_folder.glob("*.part"))
    with data.open("r+b") as stream:
        stream.seek(4_000_500)
        stream.write(b"!")
    found = await sink.partial_file(ARCHIVE).load()
    kept = extent_map.extent_of(0, [b"a" * 3_000_000])
    assert found == ResumeState(stored(8 << 20), 3_000_000, (kept,))


async def test_archives_under_inspection_do_not_hold_up_other_outputs(sink):
    release = threading.Event()
    busy = []
    for number in range(8):
        part = sink.partial_file(Output("p", "j", f"t{number}", Kind.ARCHIVE))
        busy.append(asyncio.create_task(part.read(lambda _: release.wait(60), b"body")))
    await wait_until_idle()
    picture = sink.partial_file(Output("p", "j", "t", Kind.QUICKLOOK, "q.png"))
    async with asyncio.timeout(30):
        assert await picture.read(lambda stream: stream.read(), b"body") == b"body"
        await sink.publish({"a": b"bytes"})
        large = sink.partial_file(ARCHIVE)
        await large.create(stored(10))
        await large.write(b"0123456789")
        await large.flush_and_close()
        assert await large.read_head(4) == b"0123"
    release.set()
    await asyncio.gather(*busy)


def test_part_without_data_reports_the_missing_call(sink):
    with pytest.raises(RuntimeError, match="call create"):
        _ = sink.partial_file(ARCHIVE)._data_file


async def test_holding_reads_a_large_extent_in_blocks(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(1000)
    with path.open("rb") as stream:
        assert extent_map.verify_extents(stream, [Extent(0, 1 << 50, 0)]) == ()
