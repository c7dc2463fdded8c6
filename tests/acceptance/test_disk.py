"""A disk that is full, read-only or gone: one clear line, exit 12 or 2, and with room again the rest."""

import asyncio
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bulkdl.destinations.local import atomic_files, partial_file
from bulkdl.destinations.local.disk_space import HEADROOM_BYTES
from bulkdl.models import Level, Reason
from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.faults import Faults, Rule
from bulkdl.simulator.messages import ReceivedRequest
from support.fault_runs import RunEnvironment, run_environment
from support.run_processes import start_run, wait_for_run

MIB = 1 << 20
ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=6 * MIB)
SMALL = SimulatedAccount(projects=1, jobs=6, archive_bytes=900_000)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """An empty tmpfs of 64 MiB."""
    where = tmp_path / "mounted"
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(where)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this test may not mount a file system")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def resize(where: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{size}", str(where)], check=True)


@contextmanager
def filled_but(where: Path, left_bytes: int) -> Iterator[None]:
    """No more than *left_bytes* are free."""
    ballast = where / "ballast"
    with ballast.open("wb") as stream:
        while True:
            with suppress(OSError):  # somebody else has taken of it meanwhile
                os.posix_fallocate(stream.fileno(), 0, max(1, shutil.disk_usage(where).free - left_bytes))
                break
    try:
        yield
    finally:
        ballast.unlink()


async def cli(here: RunEnvironment, *more: str, **env: str) -> tuple[int, str]:
    """Return the exit code and the output of one ``bulkdl run``."""
    code, told = await wait_for_run(await start_run(here, "--archive-concurrency", "2", *more, **env))
    assert "Traceback" not in told
    return code, told


async def test_no_room_is_seen_before_an_archive_is_written(mount: Path) -> None:
    async with run_environment(mount / "out", ACCOUNT) as here:
        with filled_but(mount, HEADROOM_BYTES + 2 * MIB):
            ran = await here.run()
            assert ran.exit_code == 12
            assert Reason.DISK_FULL in ran.failure_reasons()
            assert len(ran.requests_to("object")) <= 2  # the run is stopped: the third is not even asked for
            assert "bytes needed" in " ".join(each.detail for each in ran.results)
            assert sum(path.stat().st_size for path in (mount / "out").rglob("*.part")) == 0
        assert (await here.run()).exit_code == 0
        assert here.has_complete_output()


async def test_archives_that_fit_one_by_one_but_not_together_do_not_fill_the_disk(mount: Path) -> None:
    """Each finds room when it begins; what the others still need is no room any more."""
    account = SimulatedAccount(projects=1, jobs=2, archive_bytes=20 * MIB)
    stall = {"fault": "stall", "at_byte": 3 * MIB, "nth": 1, "server": "storage"}
    async with run_environment(
        mount / "out", account, archive_concurrency=4, connections=1, speed_time=0.3
    ) as here:
        ran = await here.run(stall)
        assert ran.exit_code == 12
        full = [each for each in ran.results if each.reason is Reason.DISK_FULL]
        assert all("bytes needed" in each.detail and "reserved by" in each.detail for each in full)
        assert shutil.disk_usage(mount).free >= HEADROOM_BYTES
        resize(mount, "size=256m")
        kept = sum(path.stat().st_size for path in (mount / "out").rglob("*.part"))
        assert kept > 0
        again = await here.run()
        assert again.exit_code == 0
        assert here.has_complete_output()


async def test_a_resume_needs_room_for_what_is_missing_and_no_more(mount: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=12 * MIB)
    cut = {"fault": "cut", "at_byte": 9 * MIB, "nth": 1, "server": "storage"}
    dead = {"fault": "cut", "at_byte": 0, "server": "storage", "ranged": True}
    async with run_environment(mount / "out", account, retries=0) as here:
        await here.run(cut, dead, level=Level.TASK)
        with filled_but(mount, HEADROOM_BYTES + MIB):
            ran = await here.run(level=Level.TASK)
            assert ran.exit_code == 12
            assert ran.downloaded_bytes == 0
        with filled_but(mount, HEADROOM_BYTES + 7 * MIB):
            ran = await here.run(level=Level.TASK)
            assert ran.exit_code == 0
            assert ran.downloaded_bytes <= 7 * MIB


@pytest.mark.parametrize(
    ("ceiling", "exit_code", "reason"), [(1 << 40, 12, Reason.DISK_FULL), (4 * MIB, 3, Reason.TOO_LARGE)]
)
async def test_an_archive_without_end_is_cut_off_before_the_disk_is_full(
    mount: Path, ceiling: int, exit_code: int, reason: Reason
) -> None:
    endless = {"fault": "endless", "server": "storage", "chunked": True}
    unannounced = {"fault": "without", "headers": ["x-goog-stored-content-length"]}
    async with run_environment(mount / "out", ACCOUNT, archive_max_size=ceiling) as here:
        ran = await here.run(endless, unannounced)
        assert (ran.exit_code, ran.failure_reasons()) == (exit_code, {reason})
        assert shutil.disk_usage(mount).free >= HEADROOM_BYTES - MIB
        assert here.find_wrong_files() == []


async def test_full_in_the_middle_of_a_part(mount: Path) -> None:
    """Others use the disk, too: there was room when the archive was begun."""
    async with run_environment(mount / "out", ACCOUNT) as here:
        faults = Meddling.from_rules({"fault": "cut", "at_byte": 3 * MIB, "nth": 1, "server": "storage"})
        ballast = filled_but(mount, MIB // 2)
        faults.meddle, faults.at_a_resume = ballast.__enter__, True
        here.simulator.faults = faults
        with closing_of(ballast):
            code, told = await cli(here, "--archive-concurrency", "1")
            assert code == 12, told
            assert here.find_wrong_files() == []
        kept = sum(path.stat().st_size for path in (mount / "out").rglob("*.part"))
        assert kept > 0
        again = await here.run()
        assert again.exit_code == 0
        assert here.has_complete_output()
        assert again.downloaded_bytes <= here.needed_bytes - kept + 2 * MIB


@pytest.mark.parametrize("left_bytes", [0, 300_000, 1_500_000, 3_000_000])
async def test_full_while_small_files_and_the_ledger_are_written(mount: Path, left_bytes: int) -> None:
    async with run_environment(mount / "out", SMALL) as here:
        with filled_but(mount, left_bytes):
            code, told = await cli(here)
            assert code == 12, told
            assert "free disk space" in told
            assert here.find_wrong_files() == []
        code, told = await cli(here)
        assert code == 0, told
        assert here.has_complete_output()


async def test_the_directory_is_given_back_though_the_disk_is_full(mount: Path) -> None:
    """The run was the library's: its process lives on, and looks as if it were still at work."""
    async with run_environment(mount / "out", SMALL) as here:
        faults = Meddling([])
        ballast = filled_but(mount, 0)
        faults.meddle = ballast.__enter__
        with closing_of(ballast):
            here.simulator.faults = faults
            async with here.downloader() as downloader:
                summary = await downloader.run()
            assert summary.exit_code == 12
            assert shutil.disk_usage(mount).free < 1 * MIB
        assert (await here.run()).exit_code == 0
        assert here.has_complete_output()


@contextmanager
def closing_of(entered: Any) -> Iterator[None]:
    """Leave at the end what somebody else has entered meanwhile."""
    try:
        yield
    finally:
        entered.__exit__(None, None, None)


class Meddling(Faults):
    """At the first request for an archive something happens to the disk."""

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        super().__init__(rules, seed)
        self.meddle: Any = None
        self.at_a_resume = False

    def select_rules(self, call: ReceivedRequest) -> list[Rule]:
        if call.endpoint == "object" and self.meddle and ("Range" in call.headers or not self.at_a_resume):
            meddle, self.meddle = self.meddle, None
            meddle()
        return super().select_rules(call)


async def test_read_only_in_the_middle(mount: Path) -> None:
    async with run_environment(mount / "out", ACCOUNT) as here:
        faults = Meddling([])
        # Files open for writing keep a mount from becoming read-only, but not another one on top of it.
        place = str(here.root)

        def meddle() -> None:
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)

        faults.meddle = meddle
        try:
            here.simulator.faults = faults
            code, told = await cli(here)
            assert code == 2, told
            assert "writable" in told
            assert here.find_wrong_files() == []
            code, told = await cli(here)
            assert code == 2, told
        finally:
            await asyncio.to_thread(subprocess.run, ["umount", "-l", place], check=True)
        code, told = await cli(here)
        assert code == 0, told
        assert here.has_complete_output()


@pytest.mark.parametrize("what", ["everything", "the state", "the parts"])
async def test_the_output_directory_vanishes(tmp_path: Path, what: str) -> None:
    root = tmp_path / "out"
    victim = {"everything": root, "the state": root / ".bulkdl", "the parts": root / ".bulkdl" / "parts"}[
        what
    ]
    async with run_environment(root, ACCOUNT) as here:
        faults = Meddling([])
        faults.meddle = lambda: victim.rename(tmp_path / "gone")
        here.simulator.faults = faults
        code, told = await cli(here)
        assert code == 2, told
        assert str(root) in told
        assert here.find_wrong_files() == []
        code, told = await cli(here)
        assert code == 0, told
        assert here.has_complete_output()


@pytest.mark.parametrize(("number", "exit_code"), [(errno.ENOSPC, 12), (errno.EDQUOT, 12), (errno.EIO, 2)])
@pytest.mark.parametrize(
    "step", ["write_file", "rename_into_place", "make_folder", "sync_folder", "link_or_copy"]
)
async def test_any_step_on_disk_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, exit_code: int
) -> None:
    calls = 0
    original = getattr(atomic_files, step)

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == (1 if step == "link_or_copy" else 5):
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    async with run_environment(tmp_path, ACCOUNT) as here:
        monkeypatch.setattr(atomic_files, step, failing)
        ran = await here.run()
        assert ran.exit_code == exit_code
        assert here.find_wrong_files() == []
        assert (await here.run()).exit_code == 0
        assert here.has_complete_output()


@pytest.mark.parametrize(("number", "exit_code"), [(errno.ENOSPC, 12), (errno.EIO, 2)])
async def test_when_the_disk_refuses_one_archive_no_other_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, exit_code: int
) -> None:
    async def failing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    async with run_environment(tmp_path, ACCOUNT, archive_concurrency=1, only=["archive"]) as here:
        with monkeypatch.context() as patched:
            patched.setattr(partial_file, "_write_all", failing)
            ran = await here.run()
        assert len(ran.requests_to("object")) == 1
        assert ran.exit_code == exit_code
        assert here.find_wrong_files() == []
        assert (await here.run()).exit_code == 0
        assert here.has_complete_output()


async def test_nowhere_to_write_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    async with run_environment(blocked / "out", ACCOUNT) as here:
        code, told = await cli(here)
        assert code == 2
        assert "cannot be written" in told
        assert len(told.strip().splitlines()) == 1
        assert not here.simulator.requests
