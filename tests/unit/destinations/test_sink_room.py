"""Room that is promised: what others will still need is not free."""

import shutil
from collections import namedtuple

import pytest

from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.destinations.local.disk_space import HEADROOM_BYTES, DiskReservations, has_enough_space
from bulkdl.errors import DestinationError
from bulkdl.models import (
    CommittedFile,
    Digest,
    Extent,
    Kind,
    Output,
    Reason,
    RemoteObject,
    ResumeState,
    Validator,
)

MIB = 1 << 20
FIRST, SECOND = (Output("p", "j", task, Kind.ARCHIVE) for task in "ab")
BLOCK = bytes(MIB)


@pytest.fixture
def free(monkeypatch):
    """Says how much is free beyond the headroom, in MiB: ``free(10)``."""
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - shaped like shutil's

    def say(mib):
        left = HEADROOM_BYTES + mib * MIB
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1 << 40, 0, left))

    return say


@pytest.fixture
def sink(tmp_path):
    made = LocalDestination(tmp_path / "out")
    made.prepare()
    return made


def stored(mib):
    return RemoteObject("https://s/o", Validator('"1"'), None if mib is None else mib * MIB)


@pytest.mark.parametrize(
    ("wanted", "free_bytes", "promised", "enough"),
    [
        (1, HEADROOM_BYTES + 1, 0, True),
        (1, HEADROOM_BYTES, 0, False),
        (5, HEADROOM_BYTES + 9, 4, True),
        (5, HEADROOM_BYTES + 9, 5, False),
        (0, 0, 10, True),
    ],
)
def test_what_fits(wanted, free_bytes, promised, enough):
    assert has_enough_space(wanted, free_bytes=free_bytes, reserved_bytes=promised) is enough


def test_a_promise_shrinks_as_bytes_are_written_and_ends_with_the_transfer(tmp_path, free):
    free(10)
    room = DiskReservations(tmp_path)
    room.reserve("a", 6 * MIB)
    with pytest.raises(
        DestinationError, match=f"{5 * MIB} bytes needed.*{6 * MIB} reserved by running downloads"
    ):
        room.reserve("b", 5 * MIB)
    assert room.reserved_bytes == 6 * MIB
    room.consume("a", MIB)
    room.reserve("b", 5 * MIB)
    room.reserve("b", 4 * MIB)
    assert room.reserved_bytes == 9 * MIB
    room.consume("a", 100 * MIB)
    assert room.reserved_bytes == 4 * MIB
    room.release("b")
    room.release("b")
    room.consume("b", MIB)
    assert room.reserved_bytes == 0


def promised(sink):
    return sink.state.reservations.reserved_bytes // MIB


async def test_transfers_under_way_count_until_they_are_over(sink, free):
    free(10)
    first, second = sink.partial_file(FIRST), sink.partial_file(SECOND)
    await first.create(stored(6))
    with pytest.raises(DestinationError, match="bytes needed") as raised:
        await second.create(stored(5))
    assert raised.value.reason is Reason.DISK_FULL
    await first.write(BLOCK)
    await first.flush_and_close()
    assert promised(sink) == 5
    await second.create(stored(5))
    assert promised(sink) == 10
    second.close()
    assert promised(sink) == 5
    await first.discard()
    assert promised(sink) == 0


async def test_what_is_committed_needs_no_more_room(sink, free):
    free(10)
    part = sink.partial_file(FIRST)
    await part.create(stored(3))
    await part.write(BLOCK)
    await part.commit(CommittedFile("key", MIB, Digest("crc32c", "x"), Validator('"1"'), "https://s/o"))
    assert promised(sink) == 0


async def test_going_on_needs_room_for_what_is_missing(sink, free):
    free(10)
    part = sink.partial_file(FIRST)
    await part.create(stored(5))
    await part.write(BLOCK)
    await part.flush_and_close()
    part.close()
    later = sink.partial_file(FIRST)
    state = await later.load()
    assert state == ResumeState(stored(5), MIB)
    free(3)
    with pytest.raises(DestinationError, match=f"{4 * MIB} bytes needed"):
        await later.resume(state)
    free(4)
    await later.resume(state)
    await later.resume(state)
    assert promised(sink) == 4


async def test_a_divided_part_has_its_room_from_the_beginning(sink, free):
    free(10)
    part = sink.partial_file(FIRST)
    await part.create(stored(6), divided=True)
    assert promised(sink) == 0
    await part.write_at(0, [BLOCK])
    free(0)
    await part.resume(ResumeState(stored(6), MIB, (Extent(0, MIB, 0),)))
    assert promised(sink) == 0


async def test_a_body_of_unknown_length_is_held_against_what_is_free_as_it_grows(sink, free):
    free(3)
    await sink.partial_file(FIRST).create(stored(2))
    part = sink.partial_file(SECOND)
    await part.create(stored(None))
    await part.write(BLOCK)
    await part.flush_and_close()
    free(2)
    with pytest.raises(DestinationError, match="bytes needed") as raised:
        await part.write(BLOCK)
    assert raised.value.reason is Reason.DISK_FULL
    await part.flush_and_close()
    assert await part.read(lambda stream: len(stream.read())) == MIB
