"""
Send the report at the end of a run to the command and the URL of the ``[notify]`` table.

A failed notification is logged and has no other effect. It never changes the result of the run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from bulkdl.errors import ConfigError
from bulkdl.http.proxies import Proxies, resolve_proxies
from bulkdl.log import get_logger
from bulkdl.notify.command import run_command
from bulkdl.notify.errors import NotificationError
from bulkdl.notify.post import PostTarget, post_report
from bulkdl.redaction import redact, register_secret
from bulkdl.settings import Settings
from bulkdl.settings.credentials import read_notify_header, remove_credentials

log = get_logger(__name__)

# After a signal, the process must end soon.
STOPPING_TIMEOUT_S = 5.0
_HINTS = {
    "command": "check [notify] command; the report is its standard input",
    "url": "check [notify] url, header and the receiver",
}
_MIN_SECRET_CHARS = 20


@dataclass(frozen=True, slots=True)
class Notifier:
    """
    Sends reports. ``create_notifier`` reads the settings.

    Attributes:
        env: The environment of the command, without credentials.
    """

    command: tuple[str, ...]
    target: PostTarget | None
    env: Mapping[str, str]
    proxies: Proxies
    timeout_s: float

    async def send(self, report: str, *, is_stopping: bool = False) -> None:
        """
        Send *report* to the command and to the URL at the same time.

        Args:
            is_stopping: A signal has stopped the run, so the time limit is short.
        """
        data = report.encode()
        timeout_s = min(self.timeout_s, STOPPING_TIMEOUT_S) if is_stopping else self.timeout_s
        calls: list[Awaitable[None]] = []
        if self.command:
            calls.append(_log_failure("command", run_command(self.command, data, self.env, timeout_s)))
        if self.target is not None:
            calls.append(_log_failure("url", post_report(self.target, data, self.proxies, timeout_s)))
        await asyncio.gather(*calls)


async def _log_failure(kind: str, delivery: Awaitable[None]) -> None:
    try:
        await delivery
    except NotificationError as error:
        log.warning("notify.failed", target=kind, detail=redact(str(error)), hint=_HINTS[kind])
    except Exception:
        log.exception("notify.crashed", target=kind)  # the result of the run does not change
    else:
        log.info("notify.sent", target=kind)


def create_notifier(settings: Settings, env: Mapping[str, str] = os.environ) -> Notifier | None:
    """
    Return the notifier of *settings*, or None without a command and a URL.

    Raises:
        ConfigError: The value of the header cannot be read.
    """
    table = settings.notify
    if not table.is_enabled:
        return None
    target = None
    if table.url is not None:
        value = read_notify_header(table, env)
        if value is not None and not _is_header_value(value):
            raise ConfigError("notify", "the value of the header is not one line of printable characters")
        target = PostTarget(table.url, table.header, value, allow_http=table.allow_http)
        _hide(target)
    return Notifier(
        table.command,
        target,
        remove_credentials(settings, env),
        resolve_proxies(settings.proxy),
        table.timeout,
    )


def _hide(target: PostTarget) -> None:
    """Mask the value of the header, and the path and the query of the URL, which can be secret."""
    url = target.url.get_secret_value()
    parts = urlsplit(url)
    for text in (url, parts.path.strip("/"), parts.query):
        if len(text) >= _MIN_SECRET_CHARS:  # a short path is a word that occurs in other places
            register_secret(text)
    if target.value is not None:
        register_secret(target.value.get_secret_value())


def _is_header_value(value: SecretStr) -> bool:
    text = value.get_secret_value()
    return text.isascii() and text.isprintable()
