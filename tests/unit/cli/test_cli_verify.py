import asyncio
import io
import os
import signal

import click
import pytest
from rich.console import Console

from bulkdl.cli import verify as verify_module
from bulkdl.cli.render import verification_headline, write_csv
from bulkdl.cli.retry import parse_reason
from bulkdl.cli.signals import run_interruptible
from bulkdl.errors import ConfigError
from bulkdl.maintenance.retry import REASONS
from bulkdl.models import Reason
from bulkdl.report.verification import FileState, Finding, Verification
from bulkdl.settings import Settings


@pytest.mark.parametrize("reason", REASONS)
def test_parse_reason_accepts_every_retryable_reason(reason):
    assert parse_reason(reason.value) is reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stall", "did you mean stalled?"),
        ("Server-Error", "did you mean server_error?"),
        ("downloaded", "is not a retryable reason"),
        ("qqqq", "expected one of unreachable, "),
    ],
)
def test_parse_reason_with_another_text_proposes_a_reason(text, message):
    with pytest.raises(ConfigError, match="--reason") as caught:
        parse_reason(text)
    assert message in str(caught.value)


def test_retryable_reasons_do_not_include_completed_outputs():
    assert not {Reason.UP_TO_DATE, Reason.DOWNLOADED, Reason.LINKED, Reason.STOPPED} & set(REASONS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_verify_with_a_signal_cancels_the_work_and_exits_with_its_code(number, code):
    released = []

    async def work():
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            released.append("lease")

    with pytest.raises(click.exceptions.Exit) as caught:
        await run_interruptible(work)
    assert (caught.value.exit_code, released) == (code, ["lease"])


def test_verify_on_a_terminal_shows_progress():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, _environ={"TERM": "xterm"})
    with verify_module._bar(console, Settings()) as bar:
        bar.start(4, 4000)
        bar.advance(1, 1000)
        bar.advance(2, 2000)
        bar.progress.refresh()
    assert "verifying" in screen.getvalue()
    assert "3 files, 2.9 KiB" in screen.getvalue()


@pytest.mark.parametrize(("terminal", "progress"), [(False, "auto"), (True, "never")])
def test_verify_without_a_terminal_draws_nothing(terminal, progress):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, _environ={"TERM": "xterm"})
    with verify_module._bar(console, Settings(progress=progress)) as bar:
        bar.start(4, 4000)
        bar.advance(1, 1000)
    assert screen.getvalue() == ""


def test_write_csv_quotes_special_characters(capsys):
    write_csv(("a", "b"), [['x,"y"', "two\nlines"], [None, 3]])
    assert capsys.readouterr().out == 'a,b\n"x,""y""",two\\nlines\n,3\n'


def test_verification_headline_counts_findings_and_repairs():
    found = Verification("out", "quick")
    assert verification_headline(found) == "verified (quick): 0 wrong, exit code 0"
    found.add_finding(Finding("k", FileState.MISSING, ""))
    found.repaired = 1
    assert verification_headline(found) == (
        "verified (quick): 1 wrong, 1 marked for download by bulkdl retry or run, exit code 6"
    )
