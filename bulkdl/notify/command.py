"""Run a command with a report as its standard input, within a time limit."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress

from bulkdl.notify.errors import NotificationError
from bulkdl.redaction import sanitize

_MAX_ERROR_BYTES = 4096
_KILL_DELAY_S = 2.0


async def run_command(
    command: Sequence[str], report: bytes, env: Mapping[str, str], timeout_s: float
) -> None:
    """
    Run *command* in a session of its own, so that Ctrl-C does not reach it. Its output is discarded.

    Raises:
        NotificationError: It cannot be started, it failed, or it needed more time. The end of its error
            output is in the message.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE, env=env, start_new_session=True
        )
    except OSError as error:
        raise NotificationError(f"{command[0]} cannot be started: {error.strerror}") from error
    errors = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async with asyncio.TaskGroup() as group:
                group.create_task(_write(process, report))
                group.create_task(_read_end(process, errors))
            code = await process.wait()
    except TimeoutError:
        raise NotificationError(f"{command[0]} did not end within {timeout_s:g} s") from None
    finally:
        await _end(process)
    if code != 0:
        detail = sanitize(errors.decode("utf-8", "replace"))
        raise NotificationError(
            f"{command[0]} ended with exit code {code}" + (f": {detail}" if detail else "")
        )


async def _write(process: Process, report: bytes) -> None:
    """Write *report* to the process, which does not have to read it."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    with suppress(OSError):
        process.stdin.write(report)
        await process.stdin.drain()
    process.stdin.close()
    with suppress(OSError):
        await process.stdin.wait_closed()


async def _read_end(process: Process, errors: bytearray) -> None:
    """Read the error output, and keep its end."""
    assert process.stderr is not None  # noqa: S101 - it is a pipe
    while data := await process.stderr.read(_MAX_ERROR_BYTES):
        errors += data
        del errors[:-_MAX_ERROR_BYTES]


async def _end(process: Process) -> None:
    """End the process and its children, if it still runs."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILL_DELAY_S):
                await process.wait()
