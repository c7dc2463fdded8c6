"""Convert the errors of a command to one line on stderr and an exit code."""

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
    """Run *command*, report an error on stderr, and return the exit code."""
    code = _run_and_map_errors(command, argv, env)
    error = output_error()
    if error is not None and not isinstance(error, BrokenPipeError):
        click.echo(f"bulkdl: the result cannot be written to stdout: {error.strerror}", err=True)
    return code


def _run_and_map_errors(command: Callable[[], object], argv: Sequence[str], env: Mapping[str, str]) -> int:
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
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the last handler before the process exits
        return report_error(_main_error(error), verbose=find_verbosity(argv, env))


def report_error(error: BaseException, *, verbose: int) -> int:
    """Write *error* to stderr in one line, with the traceback if *verbose* is 2, and return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        return int(ExitCode.INTERRUPTED)
    if isinstance(error, BulkdlError):
        code = exit_code_of(error)
        hint = f"; {FAILURE_POLICIES[error.reason].hint}" if isinstance(error, DownloadError) else ""
        click.echo(redact(f"bulkdl: {_one_line(error)}{hint}"), err=True)
    else:
        code = ExitCode.BUG
        text = f"{type(error).__name__}: {_one_line(error)}"
        click.echo(redact(f"bulkdl: this is a bug: {text}; run again with -vv and report it"), err=True)
    if verbose >= 2:
        click.echo(redact(printable_lines("".join(traceback.format_exception(error)))), err=True)
    return int(code)


def exit_code_of(error: BulkdlError) -> ExitCode:
    """Return the exit code for *error*."""
    if isinstance(error, NotFoundError):
        return ExitCode.NOT_FOUND
    if isinstance(error, OutputLockedError):
        return ExitCode.LOCKED
    if isinstance(error, DownloadError):
        return FAILURE_POLICIES[error.reason].exit_code
    return ExitCode.USAGE


def find_verbosity(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Count ``-v`` in *argv*, else read BULKDL_VERBOSE. The settings may be invalid at this point."""
    louder = sum(len(arg) - 1 for arg in argv if re.fullmatch(r"-v+", arg)) + argv.count("--verbose")
    if louder:
        return louder
    text = env.get("BULKDL_VERBOSE", "")
    return int(text) if text.isdigit() else 0


def _main_error(error: BaseException) -> BaseException:
    """Return the first BulkdlError in a group, else the first error; *error* itself if it is not a group."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_main_error(member) for member in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, BulkdlError)), leaves[0])


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))
