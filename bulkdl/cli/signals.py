"""
SIGINT and SIGTERM while a run is on: the first drains, the second aborts, the third ends the process.

They are counted where the interpreter delivers them, not in the event loop: a loop that hangs must not
keep anybody from ending it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from bulkdl.failure_policy import ExitCode

_EXITS = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}
_LAST_WORDS = "bulkdl: ended at once; run the same command again: it goes on where it stopped\n"
_SHOW_CURSOR = "\x1b[?25h\n"  # bars hide it


@dataclass(slots=True)
class ReceivedSignals:
    """The signals of one run; *exit_code* is that of the first, None without any."""

    exit_code: ExitCode | None = None
    count: int = 0


@contextmanager
def handle_stop_signals(stop: Callable[[ExitCode], None]) -> Iterator[ReceivedSignals]:
    """
    Call *stop* in the loop for the first and the second signal; the third ends the process.

    It does so also after this was left, if two had come: what is left to do may hang, too.
    """
    loop = asyncio.get_running_loop()
    caught = ReceivedSignals()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        cause = _EXITS[signal.Signals(number)]
        caught.exit_code = caught.exit_code or cause  # first of all: the next signal may come in between
        caught.count += 1
        if caught.count > 2:
            _end_at_once(caught.exit_code)
        loop.call_soon_threadsafe(stop, cause)

    before = {number: signal.signal(number, on_signal) for number in _EXITS}
    try:
        yield caught
    finally:
        if caught.count < 2:
            for number, handler in before.items():
                signal.signal(number, handler)


def _end_at_once(code: ExitCode) -> None:
    """No clean-up, which is what hangs: that the next run goes on from here is the ledger's promise."""
    words = (_SHOW_CURSOR if sys.stderr.isatty() else "") + _LAST_WORDS
    with suppress(OSError):
        os.write(sys.stderr.fileno(), words.encode())
    os._exit(code)
