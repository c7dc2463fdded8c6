from __future__ import annotations

import asyncio
import io
import os
import signal

import click
import pytest
from rich.console import Console

from bulkdl.cli import context
from bulkdl.failure_policy import ExitCode
from bulkdl.log import get_logger
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, LoadedSettings, Settings

pytestmark = pytest.mark.usefixtures("own_signals")


def render_log(monkeypatch, *, is_terminal: bool, **settings) -> str:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={"TERM": "xterm"}, width=100)
    monkeypatch.setattr(context, "create_stderr_console", lambda: console)
    with context.configure_logging(LoadedSettings(Settings(**settings), {}, ()), CredentialSet()):
        log = get_logger("bulkdl.x")
        log.debug("debug.line")
        log.info("info.line")
        log.warning("warning.line")
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("is_terminal", "settings", "lines"),
    [
        (False, {}, "info warning"),
        (True, {}, "warning"),
        (True, {"progress": "never"}, "info warning"),
        (True, {"log_format": "console"}, "info warning"),
        (True, {"verbose": 1}, "info warning"),
        (True, {"verbose": 2}, "debug info warning"),
        (True, {"verbose": -2}, ""),
        (False, {"verbose": 1}, "debug info warning"),
    ],
)
def test_configure_logging_on_a_terminal_hides_the_lines_that_bars_replace(
    monkeypatch, is_terminal, settings, lines
):
    text = render_log(monkeypatch, is_terminal=is_terminal, **settings)
    assert [word for word in ("debug", "info", "warning") if f"{word}.line" in text] == lines.split()


class Downloader:
    """A downloader that runs until it is stopped; its first stop sends another signal."""

    def __init__(self, *_args, **_kwargs):
        self.stops = 0
        self.stopped = asyncio.Event()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error):
        return None

    def stop(self, cause):
        self.stops += 1
        if self.stops == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.stopped.set()


REQUEST = context.RunRequest(LoadedSettings(Settings(), {}, ()), (Selection(),), CredentialSet())


def test_execute_with_two_signals_stops_twice_and_returns_the_first_exit_code(monkeypatch):
    monkeypatch.setattr(context, "Downloader", Downloader)

    async def work(downloader):
        os.kill(os.getpid(), signal.SIGINT)
        await downloader.stopped.wait()
        return downloader.stops

    assert context.execute(REQUEST, work) == (2, ExitCode.INTERRUPTED)


def test_execute_when_a_signal_cancels_the_run_exits_with_its_code(monkeypatch):
    monkeypatch.setattr(context, "Downloader", Downloader)

    async def work(downloader):
        os.kill(os.getpid(), signal.SIGINT)
        await downloader.stopped.wait()
        raise asyncio.CancelledError

    with pytest.raises(click.exceptions.Exit) as caught:
        context.execute(REQUEST, work)
    assert caught.value.exit_code == ExitCode.INTERRUPTED
