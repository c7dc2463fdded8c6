"""The notification at the end of ``run`` and ``retry``. Its modules are loaded only if there is one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bulkdl.cli.context import RunRequest
from bulkdl.cli.signals import run_interruptible
from bulkdl.failure_policy import ExitCode
from bulkdl.settings import Settings
from bulkdl.telemetry.console_logging import log_to_console
from bulkdl.telemetry.consoles import create_stderr_console

if TYPE_CHECKING:
    from bulkdl.notify.notifier import Notifier


def read_notifier(settings: Settings) -> Notifier | None:
    """
    Return the notifier of *settings*; None without one.

    Raises:
        ConfigError: The value of its header cannot be read.
    """
    if not settings.notify.is_enabled:
        return None
    from bulkdl.notify.notifier import create_notifier  # noqa: PLC0415 - most runs have none

    return create_notifier(settings)


def notify_after(
    notifier: Notifier | None, request: RunRequest, report: str | None, signal_code: ExitCode | None
) -> None:
    """Send the report of a run. A signal that arrives meanwhile ends the notification."""
    if notifier is None or report is None:
        return
    document = with_signal(report, signal_code)
    settings = request.loaded.settings

    async def send() -> None:
        await notifier.send(document, is_stopping=signal_code is not None)

    with log_to_console(create_stderr_console(), settings.log_format, settings.verbose):
        asyncio.run(run_interruptible(send))


def with_signal(report: str, signal_code: ExitCode | None) -> str:
    """Return *report* with the exit code of the process, if a signal arrived after the report was stored."""
    if signal_code is None:
        return report
    document: Mapping[str, object] = json.loads(report)
    return json.dumps({**document, "exit_code": int(signal_code), "stopped_by": int(signal_code)})
