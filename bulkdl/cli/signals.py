"""
Handle SIGINT and SIGTERM during a run: the first signal drains, the second aborts, the third exits.

The signal handler counts the signals, not the event loop, so that the user can exit when the loop hangs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import click

from bulkdl.failure_policy import ExitCode

T = TypeVar("T")

_EXITS = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}
_EXIT_MESSAGE = "bulkdl: exited immediately; run the same command again to resume\n"
_SHOW_CURSOR = "\x1b[?25h\n"  # progress bars hide it


@dataclass(slots=True)
class ReceivedSignals:
    """The number of signals, and the exit code of the first signal or None."""

    exit_code: ExitCode | None = None
    count: int = 0


@contextmanager
def handle_stop_signals(stop: Callable[[ExitCode], None]) -> Iterator[ReceivedSignals]:
    """
    Call *stop* in the event loop for the first and the second signal. The third signal exits the process.

    After two signals, the handlers stay installed when the block ends, because the cleanup can also hang.
    """
    loop = asyncio.get_running_loop()
    received = ReceivedSignals()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        cause = _EXITS[signal.Signals(number)]
        received.exit_code = (
            received.exit_code or cause
        )  # before anything else: the next signal may interrupt this function
        received.count += 1
        if received.count > 2:
            _exit_immediately(received.exit_code)
        loop.call_soon_threadsafe(stop, cause)

    previous = {number: signal.signal(number, on_signal) for number in _EXITS}
    try:
        yield received
    finally:
        if received.count < 2:
            for number, handler in previous.items():
                signal.signal(number, handler)


async def run_interruptible(work: Callable[[], Awaitable[T]]) -> T:
    """
    Await *work*. A signal cancels it; *work* then releases what it holds.

    Raises:
        click.exceptions.Exit: A signal has ended *work*; it has the exit code of the signal.
    """
    task = asyncio.ensure_future(work())

    def stop(*_code: ExitCode) -> None:
        task.cancel()

    with handle_stop_signals(stop) as received:
        try:
            return await task
        except asyncio.CancelledError:
            if received.exit_code is None:
                raise
            raise click.exceptions.Exit(int(received.exit_code)) from None


def _exit_immediately(code: ExitCode) -> None:
    """Exit without cleanup, because the cleanup may hang. The next run resumes from the ledger."""
    message = (_SHOW_CURSOR if sys.stderr.isatty() else "") + _EXIT_MESSAGE
    with suppress(OSError):
        os.write(sys.stderr.fileno(), message.encode())
    os._exit(code)
