"""
Sessions of the API and of the storage, and the request policy that all clients of a run share.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from bulkdl import __version__
from bulkdl.errors import ApiError
from bulkdl.http.errors import map_http_errors, reason_of_status
from bulkdl.http.proxies import resolve_proxies
from bulkdl.http.rate_limit import Cooldown, OriginRateLimiters
from bulkdl.http.retry import RetryPolicy
from bulkdl.http.sessions import api_session, storage_session
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.redaction import register_secret
from bulkdl.settings import Settings
from bulkdl.sources.transport import RequestPolicy, Timeouts, describe_request, read_body

_log = get_logger(__name__)

_USER_AGENT = f"bulkdl/{__version__}"


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return the retry policy of *settings*."""
    return RetryPolicy(
        max_attempts=settings.retries + 1,
        base_s=settings.retry_base_delay,
        cap_s=settings.retry_max_delay,
        retry_after_cap_s=settings.retry_after_max,
    )


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """
    Options of one HTTP session.

    Attributes:
        max_connections: Maximum number of connections that are open at the same time.
        trace: Called with the new session, to observe its requests.
    """

    max_connections: int
    trace: Callable[[aiohttp.ClientSession], None]


@dataclass(frozen=True, slots=True)
class _OpenSessions:
    api: aiohttp.ClientSession
    storage: aiohttp.ClientSession


class SharedLimits:
    """
    The limits that all sources of a run share, because they can use the same hosts.

    Attributes:
        cooldown: Cooldown by host.
        rate_limiters: Rate limit by origin of the API requests.
    """

    def __init__(self, settings: Settings) -> None:
        self.cooldown = Cooldown()
        self.rate_limiters = OriginRateLimiters(settings.rate, settings.burst)


class Sessions:
    """
    The HTTP sessions of one source in a run. An async context manager.

    Attributes:
        cooldown: Cooldown by host, shared by API and storage.
        retry_policy: Retry policy, shared by API requests and transfers.
        request_policy: The policy of all API requests.
    """

    def __init__(
        self,
        settings: Settings,
        api: SessionOptions,
        storage: SessionOptions,
        shared: SharedLimits | None = None,
    ) -> None:
        """
        Configure the sessions.

        Args:
            shared: The limits that other sources of the run use as well; None for the only source.
        """
        shared = shared or SharedLimits(settings)
        self.cooldown = shared.cooldown
        self.retry_policy = retry_policy(settings)
        self._settings = settings
        self._proxies = resolve_proxies(settings.proxy)
        for secret in self._proxies.secrets():
            register_secret(secret)
        self._api_options = api
        self._storage_options = storage
        self.request_policy = RequestPolicy(
            shared.rate_limiters,
            self.cooldown,
            self.retry_policy,
            timeouts=Timeouts(settings.headers_timeout, settings.speed_limit, settings.speed_time),
        )
        self._stack = AsyncExitStack()
        self._sessions: _OpenSessions | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        api = api_session(
            user_agent=_USER_AGENT,
            connect_timeout_s=settings.connect_timeout,
            limit=self._api_options.max_connections,
            allow_http=settings.allow_http,
            proxies=self._proxies,
        )
        await self._stack.enter_async_context(api)
        storage = storage_session(
            user_agent=_USER_AGENT,
            connect_timeout_s=settings.connect_timeout,
            limit=self._storage_options.max_connections,
            allow_http=settings.allow_http,
            proxies=self._proxies,
        )
        await self._stack.enter_async_context(storage)
        self._api_options.trace(api)
        self._storage_options.trace(storage)
        self._sessions = _OpenSessions(api, storage)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def log_proxies(self) -> None:
        """Log the proxies for the requests, if there are any."""
        if not self._proxies.by_scheme:
            return
        addresses = {scheme: proxy.address for scheme, proxy in self._proxies.by_scheme.items()}
        _log.info(
            "proxy.used",
            http=addresses.get("http"),
            https=addresses.get("https"),
            no_proxy=",".join(self._proxies.no_proxy),
        )

    async def get(self, url: URL, *, limit_bytes: int = 16 << 20) -> bytes:
        """
        Return the body of *url*, a page of a list for example, without credentials. The request is retried.

        Raises:
            ApiError: The request failed, its status is not 200, or the body is larger than *limit_bytes*.
        """
        label = describe_request("GET", url)

        async def attempt() -> bytes:
            await self.request_policy.acquire(url)
            with map_http_errors(ApiError, label):
                async with await self.request_policy.send(self.api.get(url)) as response:
                    retry_after_s = self.request_policy.apply_cooldown(response)
                    body = await read_body(response, limit_bytes, label, self.request_policy.timeouts)
            if response.status != 200:
                reason = reason_of_status(response.status) or Reason.INVALID_RESPONSE
                raise ApiError(reason, f"{label}: {response.status}", retry_after_s=retry_after_s)
            return body

        return await self.request_policy.retry(attempt)

    def _opened(self) -> _OpenSessions:
        if self._sessions is None:
            raise RuntimeError("the sessions are not open; use them inside `async with`")
        return self._sessions

    @property
    def api(self) -> aiohttp.ClientSession:
        """The session for the API. Requests add the token."""
        return self._opened().api

    @property
    def storage(self) -> aiohttp.ClientSession:
        """The session for signed URLs. It sends no credentials."""
        return self._opened().storage
