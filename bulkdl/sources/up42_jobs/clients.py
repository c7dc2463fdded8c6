"""
Sessions of the API and of the storage, and one API client per set of credentials.

All clients share the session, the rate limit and the cooldown.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp

from bulkdl import __version__
from bulkdl.http.proxies import resolve_proxies
from bulkdl.http.rate_limit import Cooldown, RateLimiter
from bulkdl.http.retry import RetryPolicy
from bulkdl.http.sessions import api_session, storage_session
from bulkdl.log import get_logger
from bulkdl.redaction import register_secret
from bulkdl.settings import CredentialSet, Settings
from bulkdl.sources.up42_jobs.auth import TokenSource
from bulkdl.sources.up42_jobs.client import Client
from bulkdl.sources.up42_jobs.credentials import Account, Credentials, ProjectKey, StaticToken
from bulkdl.sources.up42_jobs.transport import RequestPolicy, Timeouts

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
class _Sessions:
    api: aiohttp.ClientSession
    storage: aiohttp.ClientSession


class ApiClients:
    """
    The sessions of a run and the clients that use them. An async context manager.

    Attributes:
        cooldown: Cooldown by host, shared by API and storage.
        retry_policy: Retry policy, shared by API requests and transfers.
    """

    def __init__(
        self, settings: Settings, credential_set: CredentialSet, api: SessionOptions, storage: SessionOptions
    ) -> None:
        self.cooldown = Cooldown()
        self.retry_policy = retry_policy(settings)
        self._settings = settings
        self._proxies = resolve_proxies(settings.proxy)
        for secret in self._proxies.secrets():
            register_secret(secret)
        self._credential_set = credential_set
        self._api_options = api
        self._storage_options = storage
        self._request_policy = RequestPolicy(
            RateLimiter(settings.rate, settings.burst),
            self.cooldown,
            self.retry_policy,
            timeouts=Timeouts(settings.headers_timeout, settings.speed_limit, settings.speed_time),
        )
        self._clients: dict[Credentials, Client] = {}
        self._stack = AsyncExitStack()
        self._sessions: _Sessions | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._log_proxies()
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
        self._sessions = _Sessions(api, storage)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _log_proxies(self) -> None:
        if not self._proxies.by_scheme:
            return
        addresses = {scheme: proxy.address for scheme, proxy in self._proxies.by_scheme.items()}
        _log.info(
            "proxy.used",
            http=addresses.get("http"),
            https=addresses.get("https"),
            no_proxy=",".join(self._proxies.no_proxy),
        )

    def _opened(self) -> _Sessions:
        if self._sessions is None:
            raise RuntimeError("ApiClients is not open; use it inside `async with ApiClients(...)`")
        return self._sessions

    @property
    def storage(self) -> aiohttp.ClientSession:
        """The session for signed URLs. It sends no credentials."""
        return self._opened().storage

    @property
    def project_ids(self) -> tuple[str, ...]:
        """All projects of the configuration."""
        return self._credential_set.project_ids

    def client(self, project_id: str) -> Client:
        """Return the client with the credentials for *project_id*."""
        credentials = self._credentials(project_id)
        if credentials not in self._clients:
            self._clients[credentials] = self._create_client(credentials)
        return self._clients[credentials]

    def _credentials(self, project_id: str) -> Credentials:
        """Return the key of the project, or the account-wide credentials, or the key of another project."""
        credential_set = self._credential_set
        if project_id in credential_set.by_project:
            return ProjectKey(project_id, credential_set.by_project[project_id])
        if credential_set.token is not None:
            return StaticToken(credential_set.token)
        if credential_set.account is not None:
            return Account(*credential_set.account)
        other_id, api_key = next(iter(credential_set.by_project.items()))
        return ProjectKey(other_id, api_key)

    def _create_client(self, credentials: Credentials) -> Client:
        settings = self._settings
        session = self._opened().api
        tokens = TokenSource(session, settings.token_endpoint, credentials, self._request_policy)
        return Client(
            session,
            settings.api_url,
            tokens,
            self._request_policy,
            json_limit_bytes=settings.api_response_max_size,
            allow_http=settings.allow_http,
        )
