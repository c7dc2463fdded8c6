"""A disk that is full, read-only or missing: one line, exit code 12 or 2, and success after the repair."""

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

from bulkdl.disk import atomic_files
from bulkdl.disk.disk_space import HEADROOM_BYTES
from bulkdl.models import Reason
from bulkdl.settings.levels import Level
from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.faults import Faults, Rule
from bulkdl.simulator.messages import ReceivedRequest
from bulkdl.state import partial_file
from support.fault_runs import RunEnvironment, run_environment
from support.run_processes import start_run, wait_for_run

MIB = 1 << 20
ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=6 * MIB)
SMALL = SimulatedAccount(projects=1, jobs=6, archive_bytes=900_000)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """Mount an empty tmpfs of 64 MiB."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no permission to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{size}", str(folder)], check=True)


@contextmanager
def fill_disk(folder: Path, left_bytes: int) -> Iterator[None]:
    """Fill the file system of *folder* until *left_bytes* are free."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        while True:
            with suppress(OSError):  # another process allocated space concurrently
                os.posix_fallocate(stream.fileno(), 0, max(1, shutil.disk_usage(folder).free - left_bytes))
                break
    try:
        yield
    finally:
        ballast.unlink()


async def cli(environment: RunEnvironment, *options: str, **env: str) -> tuple[int, str]:
    """Return the exit code and the output of one ``bulkdl run``."""
    code, output = await wait_for_run(
        await start_run(environment, "--archive-concurrency", "2", *options, **env)
    )
    assert "Traceback" not in output
    return code, output


async def test_run_without_disk_space_fails_before_an_archive_is_written(mount: Path) -> None:
    async with run_environment(mount / "out", ACCOUNT) as environment:
        with fill_disk(mount, HEADROOM_BYTES + 2 * MIB):
            result = await environment.run()
            assert result.exit_code == 12
            assert Reason.DISK_FULL in result.failure_reasons()
            # The run is stopped: the third archive is not requested.
            assert len(result.requests_to("object")) <= 2
            assert "bytes needed" in " ".join(output.detail for output in result.results)
            assert sum(path.stat().st_size for path in (mount / "out").rglob("*.part")) == 0
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


@pytest.mark.usefixtures("virtual_clock")
async def test_archives_that_fit_only_separately_do_not_fill_the_disk(mount: Path) -> None:
    """There is enough space for each archive, but not next to the reservations of the others."""
    account = SimulatedAccount(projects=1, jobs=2, archive_bytes=20 * MIB)
    stall = {"fault": "stall", "at_byte": 3 * MIB, "nth": 1, "server": "storage"}
    async with run_environment(
        mount / "out", account, archive_concurrency=4, connections=1, speed_time=0.3
    ) as environment:
        result = await environment.run(stall)
        assert result.exit_code == 12
        failed = [output for output in result.results if output.reason is Reason.DISK_FULL]
        assert all("bytes needed" in output.detail and "reserved by" in output.detail for output in failed)
        assert shutil.disk_usage(mount).free >= HEADROOM_BYTES
        resize(mount, "size=256m")
        partial_bytes = sum(path.stat().st_size for path in (mount / "out").rglob("*.part"))
        assert partial_bytes > 0
        second = await environment.run()
        assert second.exit_code == 0
        assert environment.has_complete_output()


async def test_resume_needs_disk_space_only_for_the_missing_bytes(mount: Path) -> None:
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=12 * MIB)
    cut = {"fault": "cut", "at_byte": 9 * MIB, "nth": 1, "server": "storage"}
    dead = {"fault": "cut", "at_byte": 0, "server": "storage", "ranged": True}
    async with run_environment(mount / "out", account, retries=0) as environment:
        await environment.run(cut, dead, level=Level.TASK)
        with fill_disk(mount, HEADROOM_BYTES + MIB):
            result = await environment.run(level=Level.TASK)
            assert result.exit_code == 12
            assert result.downloaded_bytes == 0
        with fill_disk(mount, HEADROOM_BYTES + 7 * MIB):
            result = await environment.run(level=Level.TASK)
            assert result.exit_code == 0
            assert result.downloaded_bytes <= 7 * MIB


@pytest.mark.parametrize(
    ("max_size", "exit_code", "reason"), [(1 << 40, 12, Reason.DISK_FULL), (4 * MIB, 3, Reason.TOO_LARGE)]
)
async def test_endless_archive_is_aborted_before_the_disk_is_full(
    mount: Path, max_size: int, exit_code: int, reason: Reason
) -> None:
    endless = {"fault": "endless", "server": "storage", "chunked": True}
    unannounced = {"fault": "without", "headers": ["x-goog-stored-content-length"]}
    async with run_environment(mount / "out", ACCOUNT, archive_max_size=max_size) as environment:
        result = await environment.run(endless, unannounced)
        assert (result.exit_code, result.failure_reasons()) == (exit_code, {reason})
        assert shutil.disk_usage(mount).free >= HEADROOM_BYTES - MIB
        assert environment.find_wrong_files() == []


async def test_disk_full_during_a_partial_file_keeps_its_bytes(mount: Path) -> None:
    """Another program fills the disk after the download started."""
    async with run_environment(mount / "out", ACCOUNT) as environment:
        faults = DiskFault.from_rules({"fault": "cut", "at_byte": 3 * MIB, "nth": 1, "server": "storage"})
        ballast = fill_disk(mount, MIB // 2)
        faults.action, faults.only_on_resume = ballast.__enter__, True
        environment.simulator.faults = faults
        with exit_at_end(ballast):
            code, output = await cli(environment, "--archive-concurrency", "1")
            assert code == 12, output
            assert environment.find_wrong_files() == []
        partial_bytes = sum(path.stat().st_size for path in (mount / "out").rglob("*.part"))
        assert partial_bytes > 0
        second = await environment.run()
        assert second.exit_code == 0
        assert environment.has_complete_output()
        assert second.downloaded_bytes <= environment.needed_bytes - partial_bytes + 2 * MIB


@pytest.mark.parametrize("left_bytes", [0, 300_000, 1_500_000, 3_000_000])
async def test_disk_full_during_small_files_and_ledger_writes_ends_with_12(
    mount: Path, left_bytes: int
) -> None:
    async with run_environment(mount / "out", SMALL) as environment:
        with fill_disk(mount, left_bytes):
            code, output = await cli(environment)
            assert code == 12, output
            assert "free disk space" in output
            assert environment.find_wrong_files() == []
        code, output = await cli(environment)
        assert code == 0, output
        assert environment.has_complete_output()


async def test_lease_is_released_on_a_full_disk(mount: Path) -> None:
    """With the library, the process of the run continues, so the lease does not expire."""
    async with run_environment(mount / "out", SMALL) as environment:
        faults = DiskFault([])
        ballast = fill_disk(mount, 0)
        faults.action = ballast.__enter__
        with exit_at_end(ballast):
            environment.simulator.faults = faults
            async with environment.downloader() as downloader:
                summary = await downloader.run()
            assert summary.exit_code == 12
            assert shutil.disk_usage(mount).free < 1 * MIB
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


@contextmanager
def exit_at_end(entered: Any) -> Iterator[None]:
    """Exit a context manager that was entered elsewhere."""
    try:
        yield
    finally:
        entered.__exit__(None, None, None)


class DiskFault(Faults):
    """Call ``action`` at the first request for an archive."""

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        super().__init__(rules, seed)
        self.action: Any = None
        self.only_on_resume = False

    def select_rules(self, call: ReceivedRequest) -> list[Rule]:
        if call.endpoint == "object" and self.action and ("Range" in call.headers or not self.only_on_resume):
            action, self.action = self.action, None
            action()
        return super().select_rules(call)


async def test_disk_read_only_during_a_run_ends_with_2(mount: Path) -> None:
    async with run_environment(mount / "out", ACCOUNT) as environment:
        faults = DiskFault([])
        # A mount with files open for writing cannot become read-only. A bind mount on top of it can.
        root = str(environment.root)

        def remount_read_only() -> None:
            subprocess.run(["mount", "--bind", root, root], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)

        faults.action = remount_read_only
        try:
            environment.simulator.faults = faults
            code, output = await cli(environment)
            assert code == 2, output
            assert "writable" in output
            assert environment.find_wrong_files() == []
            code, output = await cli(environment)
            assert code == 2, output
        finally:
            await asyncio.to_thread(subprocess.run, ["umount", "-l", root], check=True)
        code, output = await cli(environment)
        assert code == 0, output
        assert environment.has_complete_output()


@pytest.mark.parametrize("missing", ["output directory", "state directory", "partial files"])
async def test_directory_removed_during_a_run_ends_with_2(tmp_path: Path, missing: str) -> None:
    root = tmp_path / "out"
    folder = {
        "output directory": root,
        "state directory": root / ".bulkdl",
        "partial files": root / ".bulkdl" / "parts",
    }[missing]
    async with run_environment(root, ACCOUNT) as environment:
        faults = DiskFault([])
        faults.action = lambda: folder.rename(tmp_path / "gone")
        environment.simulator.faults = faults
        code, output = await cli(environment)
        assert code == 2, output
        assert str(root) in output
        assert environment.find_wrong_files() == []
        code, output = await cli(environment)
        assert code == 0, output
        assert environment.has_complete_output()


@pytest.mark.parametrize(("number", "exit_code"), [(errno.ENOSPC, 12), (errno.EDQUOT, 12), (errno.EIO, 2)])
@pytest.mark.parametrize(
    "step", ["write_file", "rename_into_place", "make_folder", "sync_folder", "link_or_copy"]
)
async def test_step_on_disk_that_fails_is_reported_and_repeated_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, exit_code: int
) -> None:
    calls = 0
    original = getattr(atomic_files, step)

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == {"link_or_copy": 1, "make_folder": 3}.get(step, 5):
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    async with run_environment(tmp_path, ACCOUNT) as environment:
        monkeypatch.setattr(atomic_files, step, failing)
        result = await environment.run()
        assert result.exit_code == exit_code
        assert environment.find_wrong_files() == []
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


@pytest.mark.parametrize(("number", "exit_code"), [(errno.ENOSPC, 12), (errno.EIO, 2)])
async def test_disk_error_of_an_archive_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, exit_code: int
) -> None:
    async def failing(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    async with run_environment(tmp_path, ACCOUNT, archive_concurrency=1, only=["archive"]) as environment:
        with monkeypatch.context() as patched:
            patched.setattr(partial_file, "_write_all", failing)
            result = await environment.run()
        assert len(result.requests_to("object")) == 1
        assert result.exit_code == exit_code
        assert environment.find_wrong_files() == []
        assert (await environment.run()).exit_code == 0
        assert environment.has_complete_output()


async def test_output_directory_that_cannot_be_written_is_reported_before_any_request(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    async with run_environment(blocked / "out", ACCOUNT) as environment:
        code, output = await cli(environment)
        assert code == 2
        assert "cannot be written" in output
        assert len(output.strip().splitlines()) == 1
        assert not environment.simulator.requests
