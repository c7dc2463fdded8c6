"""
SIGINT and SIGTERM while a run is on: the first drains, the second aborts, the third kills.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bulkdl.reactions import Exit

_EXITS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


@dataclass(slots=True)
class Caught:
    """The signals of one run; *exit_code* is that of the first, None without any."""

    exit_code: Exit | None = None
    count: int = 0


@contextmanager
def stopping(stop: Callable[[Exit], None]) -> Iterator[Caught]:
    """Call *stop* for the first and the second signal; the default handlers have the third."""
    loop = asyncio.get_running_loop()
    caught = Caught()

    def on_signal(number: signal.Signals) -> None:
        caught.exit_code = caught.exit_code or _EXITS[number]
        caught.count += 1
        if caught.count == 2:
            _let_go(loop)
        stop(_EXITS[number])

    for number in _EXITS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield caught
    finally:
        _let_go(loop)


def _let_go(loop: asyncio.AbstractEventLoop) -> None:
    for number in _EXITS:
        loop.remove_signal_handler(number)
