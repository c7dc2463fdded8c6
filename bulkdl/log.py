"""
The loggers of this package: structlog's, each with a chain of its own that ends in the standard library.

Neither needs structlog's configuration, which is the application's, nor changes it. Who imports the
library and configures ``logging`` gets its lines there; who does not, gets none, and none on stdout.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

Processor = Callable[[Any, str, MutableMapping[str, Any]], Any]

SHARED_PROCESSORS: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
)
"""What makes a line of an event; for records of other libraries, too."""

# What a formatter of the standard library tells by itself.
_OF_RECORD = frozenset({"event", "logger", "level", "timestamp", "exception"})

logging.getLogger("bulkdl").addHandler(logging.NullHandler())


class LogEvent(dict[str, Any]):
    """The fields of a line. As text: the event, its other fields, a traceback if there is one."""

    def __str__(self) -> str:
        fields = [f"{key}={value!r}" for key, value in self.items() if key not in _OF_RECORD]
        line = " ".join([str(self["event"]), *fields])
        return f"{line}\n{self['exception']}" if "exception" in self else line


def _as_record(logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
    return ProcessorFormatter.wrap_for_formatter(logger, name, LogEvent(event))


def get_logger(name: str) -> BoundLogger:
    """The logger of the module *name*."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, *SHARED_PROCESSORS, _as_record],
        wrapper_class=BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("BoundLogger", wrapped)
