"""Reading of partial files: on its own executor, and stopped by cancellation within one block."""

import asyncio
import threading

import pytest

from bulkdl import concurrency
from bulkdl.models import CommittedFile, Durability, Extent, RemoteObject, ResumeState, Validator
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.state import extent_map
from bulkdl.state.storage import create_storage
from bulkdl.transfer.checksums import Digester
from support.content_checks import validate_content
from support.idle import wait_until_idle

ARCHIVE = job_output("p", "j", "t", Kind.ARCHIVE)
GIB = 1 << 30


@pytest.fixture
async def storage(tmp_path):
    created = create_storage(tmp_path / "out")
    created.state.prepare()
    yield created
    await created.close()


@pytest.fixture
def reads(monkeypatch):
    """Count the checked reads; the first one waits until *stop* is set."""
    seen = {"count": 0, "started": threading.Event()}

    def waiting(stop):
        seen["count"] += 1
        seen["started"].set()
        assert stop.wait(30)
        raise concurrency.ReadStopped

    monkeypatch.setattr(concurrency, "check_stop", waiting)
    return seen


def remote_object(total_bytes):
    return RemoteObject("https://s/o", Validator('"1"'), total_bytes)


async def cancel_while_reading(work, reads):
    task = asyncio.create_task(work)
    async with asyncio.timeout(30):
        await asyncio.to_thread(reads["started"].wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert reads["count"] == 1


async def create_sparse_file(storage, size_bytes):
    partial = storage.partial_file(ARCHIVE)
    await partial.create(remote_object(size_bytes), segmented=True)
    return partial


async def test_read_cancelled_stops_the_inspection_of_an_archive(storage, reads):
    partial = await create_sparse_file(storage, 64 << 20)
    await cancel_while_reading(
        partial.read(lambda stream: validate_content(Kind.ARCHIVE, stream, 64 << 20)), reads
    )


async def test_load_cancelled_stops_the_verification_of_a_segmented_file(storage, reads):
    partial = await create_sparse_file(storage, 64 << 20)
    await partial.write_at(0, [b"x" * 100_000])
    reopened = storage.partial_file(ARCHIVE)
    await cancel_while_reading(reopened.load(), reads)
    assert [path.suffix for path in storage.state.partial_folder.iterdir() if path.suffix == ".part"] == [
        ".part"
    ]


async def test_load_of_a_segmented_file_keeps_the_extents_with_a_valid_checksum(storage):
    partial = await create_sparse_file(storage, 8 << 20)
    await partial.write_at(0, [b"a" * 3_000_000])
    await partial.write_at(4_000_000, [b"b" * 1000])
    data = next(storage.state.partial_folder.glob("*.part"))
    with data.open("r+b") as stream:
        stream.seek(4_000_500)
        stream.write(b"!")
    found = await storage.partial_file(ARCHIVE).load()
    valid = extent_map.create_extent(0, [b"a" * 3_000_000])
    assert found == ResumeState(remote_object(8 << 20), 3_000_000, (valid,))


async def test_archive_inspections_do_not_delay_other_outputs(storage):
    release = threading.Event()
    inspections = []
    for number in range(8):
        partial = storage.partial_file(job_output("p", "j", f"t{number}", Kind.ARCHIVE))
        inspections.append(asyncio.create_task(partial.read(lambda _: release.wait(60), b"body")))
    await wait_until_idle()
    picture = storage.partial_file(job_output("p", "j", "t", Kind.QUICKLOOK, "q.png"))
    async with asyncio.timeout(30):
        assert await picture.read(lambda stream: stream.read(), b"body") == b"body"
        await storage.destination.write_documents({"a": b"bytes"})
        large = storage.partial_file(ARCHIVE)
        await large.create(remote_object(10))
        await large.write(b"0123456789")
        await large.flush_and_close()
        assert await large.read_head(4) == b"0123"
    release.set()
    await asyncio.gather(*inspections)


def test_partial_file_without_data_reports_the_missing_call(storage):
    with pytest.raises(RuntimeError, match="call create"):
        _ = storage.partial_file(ARCHIVE)._data_file


async def test_verify_extents_reads_a_large_extent_in_blocks(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        stream.truncate(1000)
    with path.open("rb") as stream:
        assert extent_map.verify_extents(stream, [Extent(0, 1 << 50, 0)]) == ()


async def test_load_without_checksum_of_the_server_drops_bytes_after_a_lost_block(storage):
    """A power cut can lose a block in the middle of the file although the blocks after it are on disk."""
    described = RemoteObject("https://s/o", Validator('"v1"', "date", "7"), 40_000)
    partial = storage.partial_file(ARCHIVE)
    await partial.create(described)
    for letter in (b"a", b"b", b"c"):
        await partial.write(letter * 10_000)
    await partial.flush_and_close()
    (data_path,) = storage.state.partial_folder.glob("*.part")
    data_path.write_bytes(b"a" * 10_000 + bytes(10_000) + b"c" * 10_000)
    later = storage.partial_file(ARCHIVE)
    assert await later.load() == ResumeState(described, 10_000)
    await later.write(b"B" * 10_000)
    await later.flush_and_close()
    assert data_path.read_bytes() == b"a" * 10_000 + b"B" * 10_000
    assert await storage.partial_file(ARCHIVE).load() == ResumeState(described, 20_000)


@pytest.mark.parametrize("durability", [Durability.BATCH, Durability.NONE])
async def test_load_after_commit_checks_the_bytes_of_a_file_that_was_not_synced(tmp_path, durability):
    storage = create_storage(tmp_path / "out", durability=durability)
    storage.state.prepare()
    body = b"body" * 5_000
    digester = Digester()
    digester.update(body)
    described = RemoteObject("https://s/o", Validator('"v1"', "date", "7"), len(body), (digester.crc32c,))
    file = CommittedFile("p/file.tar.gz", len(body), digester.crc32c, described.validator, described.source)
    partial = storage.partial_file(ARCHIVE)
    await partial.create(described)
    await partial.write(body)
    await partial.commit(file)
    assert await storage.partial_file(ARCHIVE).load() == file
    storage.destination.locate(file.key).write_bytes(bytes(len(body)))
    assert await storage.partial_file(ARCHIVE).load() is None
    assert list(storage.state.partial_folder.iterdir()) == []
    await storage.close()
