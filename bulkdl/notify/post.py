"""Send a report with POST to one URL. Redirects are not followed, so a header reaches its host only."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr
from yarl import URL

from bulkdl import __version__
from bulkdl.http.proxies import Proxies
from bulkdl.http.sessions import api_session
from bulkdl.notify.errors import NotificationError
from bulkdl.redaction import sanitize

_DELAYS_S = (0.0, 1.0, 2.0)  # before each attempt
_MAX_RESPONSE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PostTarget:
    """
    A URL that receives reports.

    Attributes:
        header: Name of a header.
        value: Value of the header; None without a header.
    """

    url: SecretStr
    header: str
    value: SecretStr | None
    allow_http: bool = False

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.url.get_secret_value()).netloc


async def post_report(target: PostTarget, report: bytes, proxies: Proxies, timeout_s: float) -> None:
    """
    Send *report*. A failed connection and the statuses 429 and 5xx are repeated within the time limit.

    Raises:
        NotificationError: The report was not accepted with a status from 200 to 299.
    """
    failure = NotificationError(f"{target.host} did not respond within {timeout_s:g} s")
    try:
        async with (
            asyncio.timeout(timeout_s),
            api_session(
                user_agent=f"bulkdl/{__version__}",
                connect_timeout_s=timeout_s,
                limit=1,
                allow_http=target.allow_http,
                proxies=proxies,
            ) as session,
        ):
            for delay_s in _DELAYS_S:
                await asyncio.sleep(delay_s)
                try:
                    return await _post(session, target, report)
                except _TemporaryError as error:
                    failure = NotificationError(str(error))
    except TimeoutError:
        pass
    raise failure


class _TemporaryError(Exception):
    """The attempt failed, and another one can succeed."""


async def _post(session: aiohttp.ClientSession, target: PostTarget, report: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    if target.value is not None:
        headers[target.header] = target.value.get_secret_value()
    url = URL(target.url.get_secret_value(), encoded=True)
    try:
        async with session.post(
            url, data=io.BytesIO(report), headers=headers, allow_redirects=False
        ) as response:
            body = await response.content.read(_MAX_RESPONSE_BYTES)
            status = response.status
    except aiohttp.ClientError as error:
        raise _TemporaryError(f"{target.host}: {sanitize(str(error)) or type(error).__name__}") from error
    if 200 <= status < 300:
        return
    secrets = [] if target.value is None else [target.value.get_secret_value()]
    problem = f"{target.host} responded with {status}: {sanitize(body.decode('utf-8', 'replace'), secrets)}"
    if status == 429 or status >= 500:
        raise _TemporaryError(problem)
    raise NotificationError(f"{problem} (redirects are not followed)" if 300 <= status < 400 else problem)
