"""
Logs, all to stderr: JSON lines in a pipe, coloured lines on a terminal.

The standard library's loggers (aiohttp, asyncio) go through the same processors as ours, so that
redaction, the last step before rendering, sees every line there is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import structlog
from rich.console import Console
from rich.text import Text
from structlog.stdlib import ProcessorFormatter

from bulkdl.log import SHARED_PROCESSORS, Processor
from bulkdl.printable import json_text, printable, printable_lines
from bulkdl.redaction import redactor

LogFormat = Literal["auto", "console", "json"]

# -v and -q: the level of our own loggers, and that of everybody else's.
_LEVELS = {
    -2: (logging.ERROR, logging.ERROR),
    -1: (logging.WARNING, logging.WARNING),
    0: (logging.INFO, logging.WARNING),
    1: (logging.DEBUG, logging.WARNING),
    2: (logging.DEBUG, logging.DEBUG),
}
_OF_SEVERAL_LINES = frozenset({"exception", "stack"})
_FIRST = ("timestamp", "level", "event")


class ConsoleHandler(logging.Handler):
    """Writes to a rich console: on a terminal above whatever bars live there, in a pipe as plain lines."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._is_terminal = console.is_terminal  # rich asks the system each time

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._is_terminal:
                self._console.print(Text.from_ansi(line), soft_wrap=True)
            else:
                self._console.file.write(f"{line}\n")
                self._console.file.flush()
        except (OSError, ValueError):
            # stderr is gone: there is no one left to tell, and the run goes on without logs.
            return


@contextmanager
def logging_to(console: Console, log_format: LogFormat = "auto", verbose: int = 0) -> Iterator[None]:
    """
    Send every log line to *console* (stderr) until left.

    *verbose* is the number of ``-v`` less the number of ``-q``.
    """
    handler = ConsoleHandler(console)
    handler.setFormatter(_formatter(console, as_json=_wants_json(log_format, console)))
    ours, others = logging.getLogger("bulkdl"), logging.getLogger()
    before = (ours.level, others.level)
    own_level, other_level = _LEVELS[max(-2, min(verbose, 2))]
    others.addHandler(handler)
    ours.setLevel(own_level)
    others.setLevel(other_level)
    logging.captureWarnings(capture=True)
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        others.removeHandler(handler)
        ours.setLevel(before[0])
        others.setLevel(before[1])


def _in_reading_order(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """When, how bad and what come first in a line."""
    first = {key: event[key] for key in _FIRST if key in event}
    return {**first, **{key: value for key, value in event.items() if key not in first}}


def _with_printable_texts(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Names in it are a server's; the renderer writes them as they are."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = (printable_lines if key in _OF_SEVERAL_LINES else printable)(value)
    return event


def _formatter(console: Console, *, as_json: bool) -> ProcessorFormatter:
    renderer: Processor = (
        structlog.processors.JSONRenderer(partial(json_text, encoding=console.encoding))
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=console.is_terminal and not console.no_color,
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=24,
        )
    )
    return ProcessorFormatter(
        foreign_pre_chain=[*SHARED_PROCESSORS],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            redactor,
            _in_reading_order,
            *(() if as_json else (_with_printable_texts,)),
            renderer,
        ],
    )


def _wants_json(log_format: LogFormat, console: Console) -> bool:
    return log_format == "json" or (log_format == "auto" and not console.is_terminal)


def stderr_console(env: Mapping[str, str] | None = None) -> Console:
    """The one console for logs and bars; NO_COLOR is honoured."""
    return Console(stderr=True, _environ=env)
