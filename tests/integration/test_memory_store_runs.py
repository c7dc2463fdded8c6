"""Runs whose destination is an object store in memory, with the number of its calls."""

import obstore
import pytest

from bulkdl import Settings
from bulkdl.destinations.objectstore.upload import Uploader
from bulkdl.disk import scratch_limit
from bulkdl.failure_policy import ExitCode
from bulkdl.maintenance.verify import VerifyOptions, verify
from bulkdl.models import Outcome, Reason
from bulkdl.report.verification import FileState
from bulkdl.simulator import SimulatedAccount
from bulkdl.sources.registry import installed_layouts
from support.library_runs import TAME, LibraryEnvironment, library_environment
from support.memory_store import use_memory_store

# The calls of a run for its own state: a list and an object as a probe; the lease (read, acquired, two writes
# that must fail, each with a read, released); the number of shards; the pointer (read, written); the snapshot
# (an object that is written and examined, and a list of older ones).
STATE_CALLS = {"list": 2, "put_async": 7, "get_async": 6}


@pytest.fixture
def store_and_calls(monkeypatch):
    return use_memory_store(monkeypatch)


@pytest.fixture
def calls(store_and_calls):
    return store_and_calls[1]


@pytest.fixture
async def site(store_and_calls, tmp_path):
    async with library_environment(tmp_path, TAME) as site:
        yield MemoryStoreEnvironment(site.simulator, store_and_calls[0], tmp_path / "state")


class MemoryStoreEnvironment(LibraryEnvironment):
    def __init__(self, simulator, store, state):
        super().__init__(simulator, "memory://bucket/prefix")
        self.store, self.state = store, state

    def downloader(self, **changes):
        return super().downloader(**{"state": self.state, **changes})

    def verify_options(self, **changes):
        return VerifyOptions(self.output, installed_layouts(Settings()), self.state, **changes)

    def list_keys(self):
        return [meta["path"] for page in obstore.list(self.store) for meta in page]


async def test_run_recorded_outputs_need_no_call_of_the_store(site, calls):
    first = await site.run()
    assert first.outputs(Outcome.COMPLETED) == len(site.expected_files())
    calls.clear()
    again = await site.run()
    assert (again.outputs(Outcome.COMPLETED), again.outputs(Outcome.FAILED)) == (0, 0)
    assert calls == STATE_CALLS


async def test_plan_recorded_outputs_need_no_call_of_the_store(site, calls):
    await site.run()
    calls.clear()
    async with site.downloader() as downloader:
        assert (await downloader.plan()).outputs == []
    assert not calls


async def test_verify_lists_the_objects_once_and_reads_changed_ones(site, calls):
    await site.run()
    archives = [key for key in site.list_keys() if key.endswith("task_output.tar.gz")][:4]
    missing, short, rewritten, damaged = archives
    content = bytes(obstore.get(site.store, rewritten).bytes())
    obstore.delete(site.store, missing)
    obstore.put(site.store, short, b"short")
    obstore.put(site.store, rewritten, content)  # another version of the same content
    obstore.put(site.store, damaged, b"x" * obstore.head(site.store, damaged)["size"])
    calls.clear()
    found = await verify(site.verify_options())
    assert {finding.key: finding.state for finding in found.findings} == {
        missing: FileState.MISSING,
        short: FileState.WRONG_SIZE,
        damaged: FileState.WRONG_DIGEST,
    }
    assert calls["list"] == 1
    # The deleted object, the second check of three findings, and the content of two objects in both checks.
    assert (calls["get_async"], calls["head"]) == (1 + 3, 2 + 1 + 2)
    assert (await verify(site.verify_options(repair=True))).repaired == 3
    assert (await site.run()).outputs(Outcome.COMPLETED) == 3
    assert (await verify(site.verify_options(deep=True))).findings == []


async def test_verify_object_published_after_the_list_was_read_is_ok(site, monkeypatch):
    await site.run()
    key = next(key for key in site.list_keys() if key.endswith("task_output.tar.gz"))
    content = bytes(obstore.get(site.store, key).bytes())
    obstore.delete(site.store, key)
    listed = obstore.list

    def list_then_publish(*args, **kwargs):
        yield from listed(*args, **kwargs)
        obstore.put(site.store, key, content)

    monkeypatch.setattr(obstore, "list", lambda *args, **kwargs: _Pages(list_then_publish(*args, **kwargs)))
    assert (await verify(site.verify_options())).findings == []


class _Pages:
    def __init__(self, pages):
        self._pages = pages

    def __aiter__(self):
        return self

    async def __anext__(self):
        for page in self._pages:
            return page
        raise StopAsyncIteration


LARGE = SimulatedAccount(projects=1, jobs=3, archive_bytes=(3 << 20, 4 << 20))


@pytest.fixture
async def large_site(store_and_calls, tmp_path):
    async with library_environment(tmp_path, LARGE) as site:
        yield MemoryStoreEnvironment(site.simulator, store_and_calls[0], tmp_path / "state")


class ScratchMeter:
    """Measures the partial files before each upload of a file."""

    def __init__(self, monkeypatch, folder):
        self.most_bytes, self._folder = 0, folder
        send = Uploader.send

        async def measured(uploader, plan, content, file):
            files = [path.stat().st_blocks * 512 for path in folder.glob("*.part")]
            self.most_bytes = max(self.most_bytes, sum(files))
            return await send(uploader, plan, content, file)

        monkeypatch.setattr(Uploader, "send", measured)


async def test_run_full_scratch_waits_for_uploads(large_site, monkeypatch):
    meter = ScratchMeter(monkeypatch, large_site.state / "parts")
    summary = await large_site.run(scratch_limit=5 << 20, archive_concurrency=4)
    assert (summary.failures, summary.outputs(Outcome.FAILED)) == ([], 0)
    assert summary.outputs(Outcome.COMPLETED) == len(large_site.expected_files())
    assert 3 << 20 <= meter.most_bytes <= 5 << 20


async def test_run_output_larger_than_the_scratch_fails_alone(large_site):
    summary = await large_site.run(scratch_limit=2 << 20)
    assert {failure.reason for failure in summary.failures} == {Reason.TOO_LARGE}
    assert "--scratch-limit is 2097152 bytes" in summary.failures[0].detail
    assert summary.exit_code is ExitCode.FAILED
    assert summary.outputs(Outcome.COMPLETED) > 0


async def test_run_scratch_filled_by_earlier_runs_ends_with_exit_code_12(large_site, monkeypatch):
    monkeypatch.setattr(scratch_limit, "_MAX_IDLE_S", 0)
    parts = large_site.state / "parts"
    parts.mkdir(parents=True)
    (parts / "other.json").write_text("{}")
    (parts / "other-1.part").write_bytes(b"x" * (4 << 20))
    summary = await large_site.run(scratch_limit=5 << 20)
    assert summary.exit_code is ExitCode.DISK_FULL
    assert any("the scratch space is full" in failure.detail for failure in summary.failures)
