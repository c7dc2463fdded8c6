"""
Creates the loggers of this package: structlog loggers whose events go to the standard library.

The loggers neither use nor change the configuration of structlog, which belongs to the application. An
application that configures ``logging`` receives the events there. Without configuration, the library does not
log, not even to stdout.
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
"""The processors of each event, and of the records of other libraries."""

# The fields that a formatter of the standard library adds.
_RECORD_FIELDS = frozenset({"event", "logger", "level", "timestamp", "exception"})

logging.getLogger("bulkdl").addHandler(logging.NullHandler())


class LogEvent(dict[str, Any]):
    """The fields of an event. Its text is the event, the other fields and the traceback, if any."""

    def __str__(self) -> str:
        fields = [f"{key}={value!r}" for key, value in self.items() if key not in _RECORD_FIELDS]
        line = " ".join([str(self["event"]), *fields])
        return f"{line}\n{self['exception']}" if "exception" in self else line


def _as_record(logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
    return ProcessorFormatter.wrap_for_formatter(logger, name, LogEvent(event))


def get_logger(name: str) -> BoundLogger:
    """Return the logger of the module *name*."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, *SHARED_PROCESSORS, _as_record],
        wrapper_class=BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return cast("BoundLogger", wrapped)
