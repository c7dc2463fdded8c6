import asyncio

import pytest

from bulkdl.disk import scratch_limit
from bulkdl.disk.scratch_limit import ScratchLimit
from bulkdl.errors import DestinationError
from bulkdl.models import Reason

MIB = 1 << 20


async def run_until_blocked():
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def create_limit(tmp_path):
    return lambda limit_bytes=10 * MIB: ScratchLimit(tmp_path, limit_bytes)


async def test_acquire_without_a_limit_returns_at_once(create_limit):
    limit = create_limit(0)
    await limit.acquire("a", 1 << 60)
    await limit.acquire("b", 1 << 60)


async def test_acquire_waits_until_another_owner_releases_its_space(create_limit):
    limit, order = create_limit(), []

    async def acquire(owner_id, size_bytes):
        await limit.acquire(owner_id, size_bytes)
        order.append(owner_id)

    await acquire("a", 8 * MIB)
    async with asyncio.TaskGroup() as group:
        group.create_task(acquire("b", 9 * MIB))
        group.create_task(acquire("c", MIB))  # it would fit, but it is behind b
        await run_until_blocked()
        assert order == ["a"]
        limit.release("a")
    assert order == ["a", "b", "c"]


async def test_acquire_again_replaces_the_space_of_the_owner(create_limit):
    limit = create_limit()
    await limit.acquire("a", 8 * MIB)
    await limit.acquire("a", 8 * MIB)
    await limit.acquire("a", 10 * MIB)


async def test_acquire_more_than_the_limit_fails_the_output_only(create_limit):
    with pytest.raises(DestinationError, match="--scratch-limit is 10485760 bytes") as caught:
        await create_limit().acquire("a", 11 * MIB)
    assert caught.value.reason is Reason.TOO_LARGE


async def test_acquire_counts_the_files_of_earlier_runs(create_limit, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch_limit, "_MAX_IDLE_S", 0)
    monkeypatch.setattr(scratch_limit, "_RECHECK_S", 0)
    (tmp_path / "b-1.part").write_bytes(b"x" * 3 * MIB)
    limit = create_limit()
    await limit.acquire("a", 7 * MIB - 4096 * 4)
    limit.release("a")
    await limit.acquire("b", 10 * MIB)  # its own file is a part of it
    limit.release("b")
    with pytest.raises(DestinationError, match="the scratch space is full: 8388608 bytes needed") as caught:
        await limit.acquire("a", 8 * MIB)
    assert caught.value.reason is Reason.DISK_FULL


async def test_acquire_waits_for_the_removal_of_a_file_without_an_owner(create_limit, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch_limit, "_RECHECK_S", 0)
    copy = tmp_path / "copy-1.tmp"
    copy.write_bytes(b"x" * 3 * MIB)
    limit = create_limit()
    waiting = asyncio.ensure_future(limit.acquire("a", 8 * MIB))
    await run_until_blocked()
    assert not waiting.done()
    copy.unlink()
    await waiting


async def test_acquire_cancelled_lets_the_next_owner_continue(create_limit):
    limit = create_limit()
    await limit.acquire("a", 8 * MIB)
    waiting = [asyncio.ensure_future(limit.acquire(owner_id, 9 * MIB)) for owner_id in "bc"]
    await run_until_blocked()
    waiting[0].cancel()
    limit.release("a")
    await waiting[1]
    assert waiting[0].cancelled()
