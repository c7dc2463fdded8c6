"""
Write log events to stderr: JSON lines in a pipe, coloured lines on a terminal.

Events of standard library loggers (aiohttp, asyncio) pass through the same processors, so that the redaction,
the last step before rendering, processes every line.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import structlog
from structlog.stdlib import ProcessorFormatter

from bulkdl.log import SHARED_PROCESSORS, Processor
from bulkdl.printable import json_text, printable, printable_lines
from bulkdl.redaction import redactor

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from bulkdl.telemetry.consoles import Console

LogFormat = Literal["auto", "console", "json"]

# -v and -q: the level of the bulkdl loggers, and the level of all other loggers.
_LEVELS = {
    -2: (logging.ERROR, logging.ERROR),
    -1: (logging.WARNING, logging.WARNING),
    0: (logging.INFO, logging.WARNING),
    1: (logging.DEBUG, logging.WARNING),
    2: (logging.DEBUG, logging.DEBUG),
}
_MULTILINE_FIELDS = frozenset({"exception", "stack"})
_FIRST_FIELDS = ("timestamp", "level", "event")


class PipeHandler(logging.Handler):
    """Writes plain lines to a pipe or a file."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.file.write(f"{self.format(record)}\n")
            self._console.file.flush()
        except (OSError, ValueError):
            # stderr is closed. The run continues without logs.
            return


class TerminalHandler(logging.Handler):
    """Writes lines to a terminal, above the progress display."""

    def __init__(self, console: RichConsole) -> None:
        from rich.text import Text  # noqa: PLC0415 - a pipe does not need rich

        super().__init__()
        self._console = console
        self._parse_line = Text.from_ansi

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._console.print(self._parse_line(self.format(record)), soft_wrap=True)
        except (OSError, ValueError):
            # stderr is closed. The run continues without logs.
            return


@contextmanager
def log_to_console(console: Console, log_format: LogFormat = "auto", verbose: int = 0) -> Iterator[None]:
    """
    Write every log event to *console* (stderr) until the context ends.

    *verbose* is the number of ``-v`` minus the number of ``-q``.
    """
    handler = _create_handler(console)
    handler.setFormatter(_formatter(console, as_json=_is_json(log_format, console)))
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


def _create_handler(console: Console) -> logging.Handler:
    if not console.is_terminal:
        return PipeHandler(console)
    return TerminalHandler(cast("RichConsole", console))


def _sort_fields(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """Put timestamp, level and event first."""
    first = {key: event[key] for key in _FIRST_FIELDS if key in event}
    return {**first, **{key: value for key, value in event.items() if key not in first}}


def _make_printable(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape control characters: names come from the server, and the renderer does not escape them."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = (printable_lines if key in _MULTILINE_FIELDS else printable)(value)
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
            _sort_fields,
            *(() if as_json else (_make_printable,)),
            renderer,
        ],
    )


def _is_json(log_format: LogFormat, console: Console) -> bool:
    return log_format == "json" or (log_format == "auto" and not console.is_terminal)
