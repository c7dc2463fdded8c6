from __future__ import annotations

from datetime import UTC, datetime

import click
import pytest

from bulkdl.cli.exit_codes import find_verbosity, run_command
from bulkdl.errors import (
    ApiError,
    ConfigError,
    DestinationError,
    LedgerError,
    LedgerVersionError,
    NotFoundError,
    OutputLockedError,
)
from bulkdl.models import Reason

CANARY = "cAnArY-9f8e7d"


def run_failing_command(error: BaseException, argv=(), env=None) -> int:
    def command():
        raise error

    return run_command(command, argv, env or {})


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("x.toml: archives", "expected 1"), 2, "bulkdl: x.toml: archives: expected 1\n"),
        (LedgerError("broken"), 2, "bulkdl: broken\n"),
        (LedgerVersionError("out", 9, 1), 2, "bulkdl: out: unexpected ledger version 9"),
        (
            NotFoundError("project", "p1"),
            4,
            "bulkdl: project p1 not found; check the ID and the credentials\n",
        ),
        (OutputLockedError("out", "h", 7, datetime(2022, 3, 1, tzinfo=UTC)), 11, "another run locks"),
        (ApiError(Reason.CREDENTIALS, "401"), 7, "check the credentials of the source (ID and key"),
        (ApiError(Reason.UNREACHABLE, "no route"), 5, "no route"),
        (DestinationError(Reason.DISK_FULL, "out"), 12, "free disk space"),
        (ValueError("boo"), 1, "bulkdl: this is a bug: ValueError: boo; run again with -vv"),
        (
            ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [ConfigError("-o", "no")])]),
            2,
            "bulkdl: -o: no",
        ),
        (ExceptionGroup("g", [ValueError("a")]), 1, "ValueError: a"),
    ],
)
def test_run_command_with_an_error_prints_one_line_and_returns_its_exit_code(capsys, error, code, line):
    assert run_failing_command(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), 130),
        (click.exceptions.Exit(143), 143),
        (click.exceptions.Exit(0), 0),
    ],
)
def test_run_command_with_an_exit_or_interrupt_prints_nothing(capsys, error, code):
    assert run_failing_command(error) == code
    assert capsys.readouterr().err == ""


def test_run_command_with_a_usage_error_returns_2(capsys):
    assert run_failing_command(click.UsageError("no such option")) == 2
    assert "no such option" in capsys.readouterr().err


@pytest.mark.parametrize(("result", "code"), [(0, 0), (3, 3), (None, 0)])
def test_run_command_returns_the_code_of_the_command(result, code):
    assert run_command(lambda: result, [], {}) == code


@pytest.mark.parametrize("argv", [["run", "-vv"], ["-v", "-v"], ["--verbose", "-v"]])
def test_run_command_with_vv_prints_the_traceback(capsys, argv):
    run_failing_command(ValueError("boo"), argv)
    assert "Traceback" in capsys.readouterr().err
    run_failing_command(ValueError("boo"), ["run", "-v"])
    assert "Traceback" not in capsys.readouterr().err


def test_run_command_masks_secrets_in_the_traceback(capsys):
    run_failing_command(RuntimeError(f"GET https://s/?Signature={CANARY} with Bearer {CANARY}"), ["-vv"])
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert CANARY not in err


def test_run_command_with_a_multiline_error_prints_one_line(capsys):
    run_failing_command(ValueError("a\n\n  b\tc"))
    assert "a b c" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "env", "level"),
    [
        ([], {}, 0),
        (["-v"], {}, 1),
        (["-vvv"], {}, 3),
        ([], {"BULKDL_VERBOSE": "2"}, 2),
        ([], {"BULKDL_VERBOSE": "x"}, 0),
    ],
)
def test_find_verbosity_reads_arguments_and_variable(argv, env, level):
    assert find_verbosity(argv, env) == level
