"""Disk space that is reserved for other downloads is not free."""

import shutil
from collections import namedtuple

import pytest

from bulkdl.disk.disk_space import HEADROOM_BYTES, DiskReservations, has_enough_space
from bulkdl.errors import DestinationError
from bulkdl.models import (
    CommittedFile,
    Digest,
    Extent,
    Reason,
    RemoteObject,
    ResumeState,
    Validator,
)
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.state.storage import create_storage

MIB = 1 << 20
FIRST, SECOND = (job_output("p", "j", task, Kind.ARCHIVE) for task in "ab")
BLOCK = bytes(MIB)


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets the free space beyond the headroom in MiB: ``free(10)``."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's

    def set_free(mib):
        free_bytes = HEADROOM_BYTES + mib * MIB
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, free_bytes))

    return set_free


@pytest.fixture
def storage(tmp_path):
    created = create_storage(tmp_path / "out")
    created.state.prepare()
    return created


def remote_object(mib):
    return RemoteObject("https://s/o", Validator('"1"'), None if mib is None else mib * MIB)


@pytest.mark.parametrize(
    ("needed", "free_bytes", "reserved", "enough"),
    [
        (1, HEADROOM_BYTES + 1, 0, True),
        (1, HEADROOM_BYTES, 0, False),
        (5, HEADROOM_BYTES + 9, 4, True),
        (5, HEADROOM_BYTES + 9, 5, False),
        (0, 0, 10, True),
    ],
)
def test_has_enough_space_includes_reservations_and_headroom(needed, free_bytes, reserved, enough):
    assert has_enough_space(needed, free_bytes=free_bytes, reserved_bytes=reserved) is enough


def test_reservation_shrinks_when_bytes_are_written_and_ends_with_release(tmp_path, free):
    free(10)
    reservations = DiskReservations(tmp_path)
    reservations.reserve("a", 6 * MIB)
    with pytest.raises(
        DestinationError, match=f"{5 * MIB} bytes needed.*{6 * MIB} reserved by running downloads"
    ):
        reservations.reserve("b", 5 * MIB)
    assert reservations.reserved_bytes == 6 * MIB
    reservations.consume("a", MIB)
    reservations.reserve("b", 5 * MIB)
    reservations.reserve("b", 4 * MIB)
    assert reservations.reserved_bytes == 9 * MIB
    reservations.consume("a", 100 * MIB)
    assert reservations.reserved_bytes == 4 * MIB
    reservations.release("b")
    reservations.release("b")
    reservations.consume("b", MIB)
    assert reservations.reserved_bytes == 0


def reserved(storage):
    return storage.state.reservations.reserved_bytes // MIB


async def test_create_reserves_the_missing_bytes_until_the_file_is_closed(storage, free):
    free(10)
    first, second = storage.partial_file(FIRST), storage.partial_file(SECOND)
    await first.create(remote_object(6))
    with pytest.raises(DestinationError, match="bytes needed") as raised:
        await second.create(remote_object(5))
    assert raised.value.reason is Reason.DISK_FULL
    await first.write(BLOCK)
    await first.flush_and_close()
    assert reserved(storage) == 5
    await second.create(remote_object(5))
    assert reserved(storage) == 10
    second.close()
    assert reserved(storage) == 5
    await first.discard()
    assert reserved(storage) == 0


async def test_commit_releases_the_reservation(storage, free):
    free(10)
    partial = storage.partial_file(FIRST)
    await partial.create(remote_object(3))
    await partial.write(BLOCK)
    await partial.commit(CommittedFile("key", MIB, Digest("crc32c", "x"), Validator('"1"'), "https://s/o"))
    assert reserved(storage) == 0


async def test_resume_reserves_the_missing_bytes(storage, free):
    free(10)
    partial = storage.partial_file(FIRST)
    await partial.create(remote_object(5))
    await partial.write(BLOCK)
    await partial.flush_and_close()
    partial.close()
    resumed = storage.partial_file(FIRST)
    state = await resumed.load()
    assert state == ResumeState(remote_object(5), MIB)
    free(3)
    with pytest.raises(DestinationError, match=f"{4 * MIB} bytes needed"):
        await resumed.resume(state)
    free(4)
    await resumed.resume(state)
    await resumed.resume(state)
    assert reserved(storage) == 4


async def test_segmented_file_is_allocated_when_it_is_created(storage, free):
    free(10)
    partial = storage.partial_file(FIRST)
    await partial.create(remote_object(6), segmented=True)
    assert reserved(storage) == 0
    await partial.write_at(0, [BLOCK])
    free(0)
    await partial.resume(ResumeState(remote_object(6), MIB, (Extent(0, MIB, 0),)))
    assert reserved(storage) == 0


async def test_write_of_a_body_with_unknown_length_reserves_each_block(storage, free):
    free(3)
    await storage.partial_file(FIRST).create(remote_object(2))
    partial = storage.partial_file(SECOND)
    await partial.create(remote_object(None))
    await partial.write(BLOCK)
    await partial.flush_and_close()
    free(2)
    with pytest.raises(DestinationError, match="bytes needed") as raised:
        await partial.write(BLOCK)
    assert raised.value.reason is Reason.DISK_FULL
    await partial.flush_and_close()
    assert await partial.read(lambda stream: len(stream.read())) == MIB
