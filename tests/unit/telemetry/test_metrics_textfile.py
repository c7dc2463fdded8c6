"""The textfile is always whole, and keeps what an alert lives on."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bulkdl.errors import ConfigError
from bulkdl.telemetry.events import RunFinished, RunStarted
from bulkdl.telemetry.exporters import start_exporters
from bulkdl.telemetry.health import DiskProbe
from bulkdl.telemetry.textfile import TextfileWriter, read_last_run

AT = datetime(2024, 3, 1, 2, 30, tzinfo=UTC)


def written_by(tmp_path: Path):
    return start_exporters(
        version="1", output=tmp_path, state=tmp_path, listen=None, metrics_file=tmp_path / "bulkdl.prom"
    )


async def test_how_a_run_ended_is_in_its_file(tmp_path):
    async with written_by(tmp_path) as view:
        view.report(RunStarted("r-1", AT))
        view.report(RunFinished(AT, 3))
    assert read_last_run(tmp_path / "bulkdl.prom") == (AT, 3)
    assert "bulkdl_disk_free_bytes NaN" not in (tmp_path / "bulkdl.prom").read_text()


async def test_the_code_of_the_process_has_the_last_word(tmp_path):
    async with written_by(tmp_path) as view:
        view.report(RunStarted("r-1", AT))
        view.report(RunFinished(AT, 0))
        view.finish(143)
    known = read_last_run(tmp_path / "bulkdl.prom")
    assert known is not None
    assert known[1] == 143


async def test_a_run_that_is_killed_leaves_what_was_known_of_the_one_before(tmp_path):
    path = tmp_path / "bulkdl.prom"
    async with written_by(tmp_path) as view:
        view.report(RunStarted("r-1", AT))
        view.report(RunFinished(AT, 3))
    async with written_by(tmp_path) as view:
        view.report(RunStarted("r-2", AT))
    assert 'run_id="r-2"' in path.read_text()
    assert read_last_run(path) == (AT, 3)


async def test_a_run_that_never_got_its_directory_leaves_the_file_to_the_one_that_has(tmp_path):
    (tmp_path / "bulkdl.prom").write_text("another's")
    async with written_by(tmp_path) as view:
        view.finish(11)
    assert (tmp_path / "bulkdl.prom").read_text() == "another's"


@pytest.mark.parametrize("text", ["", "rubbish {", "bulkdl_last_run_exit_code NaN\n", "\0\0", "a b c d e\n"])
def test_a_file_that_cannot_be_understood_tells_nothing(tmp_path, text):
    (tmp_path / "x.prom").write_text(text)
    assert read_last_run(tmp_path / "x.prom") is None
    assert read_last_run(tmp_path / "none.prom") is None


async def test_what_happens_after_the_last_minute_is_in_it_too(tmp_path):
    texts = ["end\n", "begin\n"]
    path = tmp_path / "x.prom"
    async with TextfileWriter(path, lambda: texts.pop().encode()) as textfile:
        textfile.start()
        assert textfile._writing
        await textfile._writing
        assert path.read_text() == "begin\n"
    assert path.read_text() == "end\n"


async def test_it_is_written_at_once_again_and_again_and_at_the_end(tmp_path):
    path, texts, third = tmp_path / "x.prom", [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def render() -> bytes:
        texts.append(f"# {len(texts)}\n")
        if len(texts) == 3:
            loop.call_soon_threadsafe(third.set)
        return texts[-1].encode()

    async with TextfileWriter(path, render, interval_s=0.001) as textfile:
        textfile.start()
        await third.wait()
    assert path.read_text() == texts[-1]
    assert sorted(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444


async def test_who_reads_meanwhile_sees_the_old_file_whole(tmp_path):
    path = tmp_path / "x.prom"
    path.write_text("old\n")
    with path.open() as reader:
        async with TextfileWriter(path, lambda: b"new\n") as textfile:
            textfile.start()
        assert reader.read() == "old\n"
    assert path.read_text() == "new\n"


async def test_a_disk_that_refuses_is_a_warning_and_nothing_more(tmp_path, caplog):
    folder = tmp_path / "away"
    folder.mkdir()
    async with TextfileWriter(folder / "x.prom", lambda: b"") as textfile:
        folder.rmdir()
        textfile.start()
    assert not folder.exists()


async def test_a_folder_that_is_not_there_is_told_before_anything_is_done(tmp_path):
    with pytest.raises(ConfigError, match="must exist and be writable"):
        async with TextfileWriter(tmp_path / "none" / "x.prom", lambda: b""):
            pytest.fail("begun")


async def test_a_disk_that_does_not_answer_is_asked_once_and_told(tmp_path, monkeypatch):
    looks, go_on = [], threading.Event()

    def stuck(_root: Path, _state: Path) -> tuple[float, None]:
        looks.append(1)
        go_on.wait(10)
        return 7.0, None

    monkeypatch.setattr("bulkdl.telemetry.health._measure_disk", stuck)
    monkeypatch.setattr("bulkdl.telemetry.health._TIMEOUT_S", 0.01)
    disk = DiskProbe(tmp_path, tmp_path)
    await asyncio.gather(disk.refresh(), disk.refresh())
    await disk.refresh()
    assert disk.problem == "does not respond"
    assert looks == [1]
    go_on.set()
    monkeypatch.setattr("bulkdl.telemetry.health._TIMEOUT_S", 10)
    await disk.refresh()
    assert (disk.problem, disk.free_bytes) == (None, 7.0)


def test_a_look_at_the_disk_leaves_nothing_there(tmp_path):
    disk = DiskProbe(tmp_path, tmp_path)
    disk.measure()
    assert disk.problem is None
    assert disk.free_bytes > 0
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_the_disk_says_so_and_how_full_it_is(tmp_path):
    (tmp_path / "state").write_text("no folder")
    disk = DiskProbe(tmp_path, tmp_path / "state")
    disk.measure()
    assert disk.problem == "is not writable (Not a directory)"
    assert disk.free_bytes > 0
