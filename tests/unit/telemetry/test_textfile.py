import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bulkdl.errors import ConfigError
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.telemetry.events import RunFinished, RunStarted
from bulkdl.telemetry.exporters import start_exporters
from bulkdl.telemetry.textfile import TextfileWriter, read_last_run

AT = datetime(2024, 3, 1, 2, 30, tzinfo=UTC)


def start_textfile(tmp_path: Path):
    return start_exporters(
        version="1",
        kinds=SPEC.kind_names,
        output=tmp_path,
        state=tmp_path,
        listen=None,
        metrics_file=tmp_path / "bulkdl.prom",
    )


async def test_textfile_contains_the_end_of_the_run(tmp_path):
    async with start_textfile(tmp_path) as exporters:
        exporters.report(RunStarted("r-1", AT))
        exporters.report(RunFinished(AT, 3))
    assert read_last_run(tmp_path / "bulkdl.prom") == (AT, 3)
    assert "bulkdl_disk_free_bytes NaN" not in (tmp_path / "bulkdl.prom").read_text()


async def test_finish_replaces_the_exit_code_of_the_run(tmp_path):
    async with start_textfile(tmp_path) as exporters:
        exporters.report(RunStarted("r-1", AT))
        exporters.report(RunFinished(AT, 0))
        exporters.finish(143)
    last_run = read_last_run(tmp_path / "bulkdl.prom")
    assert last_run is not None
    assert last_run[1] == 143


async def test_textfile_of_a_killed_run_contains_the_previous_result(tmp_path):
    path = tmp_path / "bulkdl.prom"
    async with start_textfile(tmp_path) as exporters:
        exporters.report(RunStarted("r-1", AT))
        exporters.report(RunFinished(AT, 3))
    async with start_textfile(tmp_path) as exporters:
        exporters.report(RunStarted("r-2", AT))
    assert 'run_id="r-2"' in path.read_text()
    assert read_last_run(path) == (AT, 3)


async def test_run_without_the_lock_does_not_write_the_textfile(tmp_path):
    (tmp_path / "bulkdl.prom").write_text("file of another run")
    async with start_textfile(tmp_path) as exporters:
        exporters.finish(11)
    assert (tmp_path / "bulkdl.prom").read_text() == "file of another run"


@pytest.mark.parametrize("text", ["", "invalid {", "bulkdl_last_run_exit_code NaN\n", "\0\0", "a b c d e\n"])
def test_read_last_run_of_an_invalid_file_returns_none(tmp_path, text):
    (tmp_path / "x.prom").write_text(text)
    assert read_last_run(tmp_path / "x.prom") is None
    assert read_last_run(tmp_path / "none.prom") is None


async def test_textfile_is_written_at_the_end_of_the_context(tmp_path):
    texts = ["end\n", "start\n"]
    path = tmp_path / "x.prom"
    async with TextfileWriter(path, lambda: texts.pop().encode()) as textfile:
        textfile.start()
        assert textfile._writing
        await textfile._writing
        assert path.read_text() == "start\n"
    assert path.read_text() == "end\n"


async def test_textfile_is_written_at_once_periodically_and_at_the_end(tmp_path):
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


async def test_textfile_is_replaced_atomically(tmp_path):
    path = tmp_path / "x.prom"
    path.write_text("old\n")
    with path.open() as reader:
        async with TextfileWriter(path, lambda: b"new\n") as textfile:
            textfile.start()
        assert reader.read() == "old\n"
    assert path.read_text() == "new\n"


async def test_textfile_write_failure_does_not_raise(tmp_path, caplog):
    folder = tmp_path / "away"
    folder.mkdir()
    async with TextfileWriter(folder / "x.prom", lambda: b"") as textfile:
        folder.rmdir()
        textfile.start()
    assert not folder.exists()


async def test_textfile_in_a_missing_folder_raises_config_error(tmp_path):
    with pytest.raises(ConfigError, match="must exist and be writable"):
        async with TextfileWriter(tmp_path / "none" / "x.prom", lambda: b""):
            pytest.fail("the context was entered")
