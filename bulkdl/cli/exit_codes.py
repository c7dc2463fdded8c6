"""
How a command ends: one line on stderr for what went wrong, and the exit code that goes with it.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

import click

from bulkdl.cli.streams import output_error
from bulkdl.errors import BulkdlError, DownloadError, NotFoundError, OutputLockedError
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.printable import printable, printable_lines
from bulkdl.redaction import redact


def run_command(
    command: Callable[[], object], argv: Sequence[str], env: Mapping[str, str] = os.environ
) -> int:
    """Run *command*, report on stderr what went wrong, and return its exit code."""
    code = _code_of_run(command, argv, env)
    error = output_error()
    if error is not None and not isinstance(error, BrokenPipeError):
        click.echo(f"bulkdl: the result cannot be written to stdout: {error.strerror}", err=True)
    return code


def _code_of_run(command: Callable[[], object], argv: Sequence[str], env: Mapping[str, str]) -> int:
    try:
        code = command()
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except (KeyboardInterrupt, click.Abort):
        return int(ExitCode.INTERRUPTED)
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - this is where the process ends; nothing is above
        return report_error(_innermost(error), verbose=verbosity(argv, env))


def report_error(error: BaseException, *, verbose: int) -> int:
    if isinstance(error, KeyboardInterrupt):
        return int(ExitCode.INTERRUPTED)
    if isinstance(error, BulkdlError):
        code = exit_code_of(error)
        hint = f"; {FAILURE_POLICIES[error.reason].hint}" if isinstance(error, DownloadError) else ""
        click.echo(redact(f"bulkdl: {_one_line(error)}{hint}"), err=True)
    else:
        code = ExitCode.BUG
        what = f"{type(error).__name__}: {_one_line(error)}"
        click.echo(redact(f"bulkdl: this is a bug: {what}; run again with -vv and report it"), err=True)
    if verbose >= 2:
        click.echo(redact(printable_lines("".join(traceback.format_exception(error)))), err=True)
    return int(code)


def exit_code_of(error: BulkdlError) -> ExitCode:
    """The exit code for an error that ended a command."""
    if isinstance(error, NotFoundError):
        return ExitCode.NOT_FOUND
    if isinstance(error, OutputLockedError):
        return ExitCode.LOCKED
    if isinstance(error, DownloadError):
        return FAILURE_POLICIES[error.reason].exit_code
    return ExitCode.USAGE


def verbosity(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """How much was asked for, when the settings themselves may not have been read."""
    louder = sum(len(arg) - 1 for arg in argv if re.fullmatch(r"-v+", arg)) + argv.count("--verbose")
    if louder:
        return louder
    text = env.get("BULKDL_VERBOSE", "")
    return int(text) if text.isdigit() else 0


def _innermost(error: BaseException) -> BaseException:
    """The error that a group is about: one of ours if there is one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_innermost(each) for each in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, BulkdlError)), leaves[0])


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))
