import asyncio
import threading
from pathlib import Path

from bulkdl.telemetry.health import DiskProbe


async def test_refresh_with_a_blocked_disk_checks_once_and_reports_the_problem(tmp_path, monkeypatch):
    checks, proceed = [], threading.Event()

    def block(_root: Path, _state: Path) -> tuple[float, None]:
        checks.append(1)
        proceed.wait(10)
        return 7.0, None

    monkeypatch.setattr("bulkdl.telemetry.health._measure_disk", block)
    monkeypatch.setattr("bulkdl.telemetry.health._TIMEOUT_S", 0.01)
    disk = DiskProbe(tmp_path, tmp_path)
    await asyncio.gather(disk.refresh(), disk.refresh())
    await disk.refresh()
    assert disk.problem == "does not respond"
    assert checks == [1]
    proceed.set()
    monkeypatch.setattr("bulkdl.telemetry.health._TIMEOUT_S", 10)
    await disk.refresh()
    assert (disk.problem, disk.free_bytes) == (None, 7.0)


def test_measure_leaves_no_file(tmp_path):
    disk = DiskProbe(tmp_path, tmp_path)
    disk.measure()
    assert disk.problem is None
    assert disk.free_bytes > 0
    assert not list(tmp_path.iterdir())


def test_measure_of_an_unwritable_directory_reports_problem_and_free_space(tmp_path):
    (tmp_path / "state").write_text("no folder")
    disk = DiskProbe(tmp_path, tmp_path / "state")
    disk.measure()
    assert disk.problem == "is not writable (Not a directory)"
    assert disk.free_bytes > 0
