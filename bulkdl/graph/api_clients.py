"""
Who asks UP42: one client for each set of credentials, all on the same sessions and at one pace.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp

from bulkdl import __version__
from bulkdl.graph.sizes import open_file_limit, run_sizes
from bulkdl.http.proxies import proxies_of
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
from bulkdl.telemetry.events import Reporter
from bulkdl.telemetry.http_tracing import watch_api, watch_storage

_log = get_logger(__name__)

_USER_AGENT = f"bulkdl/{__version__}"


def retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=settings.retries + 1,
        base_s=settings.retry_base_delay,
        cap_s=settings.retry_max_delay,
        retry_after_cap_s=settings.retry_after_max,
    )


class ApiClients:
    """
    The sessions of a run and the clients that use them. An async context manager.

    Attributes:
        storage: Session for signed URLs; it carries no credentials.
        cooldown: Shared by API and storage, by host.
    """

    storage: aiohttp.ClientSession

    def __init__(self, settings: Settings, book: CredentialSet, reporter: Reporter) -> None:
        self.cooldown = Cooldown()
        self.policy = retry_policy(settings)
        self._settings = settings
        self._proxies = proxies_of(settings.proxy)
        for secret in self._proxies.secrets():
            register_secret(secret)
        self._credential_set = book
        self._reporter = reporter
        self._request_policy = RequestPolicy(
            RateLimiter(settings.rate, settings.burst),
            self.cooldown,
            self.policy,
            timeouts=Timeouts(settings.headers_timeout, settings.speed_limit, settings.speed_time),
        )
        self._clients: dict[Credentials, Client] = {}
        self._stack = AsyncExitStack()
        self._api: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        settings = self._settings
        sizes = run_sizes(settings, open_file_limit())
        if self._proxies.by_scheme:
            places = {scheme: found.place for scheme, found in self._proxies.by_scheme.items()}
            _log.info(
                "proxy.used",
                http=places.get("http"),
                https=places.get("https"),
                no_proxy=",".join(self._proxies.no_proxy),
            )
        self._api = await self._stack.enter_async_context(
            api_session(
                user_agent=_USER_AGENT,
                connect_timeout_s=settings.connect_timeout,
                limit=sizes.api_connections,
                allow_http=settings.allow_http,
                proxies=self._proxies,
            )
        )
        self.storage = await self._stack.enter_async_context(
            storage_session(
                user_agent=_USER_AGENT,
                connect_timeout_s=settings.connect_timeout,
                limit=sizes.storage_connections,
                allow_http=settings.allow_http,
                proxies=self._proxies,
            )
        )
        watch_api(self._api, self._reporter)
        watch_storage(self.storage, self._reporter)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def project_ids(self) -> tuple[str, ...]:
        """Every project that the configuration names."""
        return self._credential_set.project_ids

    def client(self, project_id: str) -> Client:
        """The client that may see *project_id*."""
        credentials = self._credentials(project_id)
        if credentials not in self._clients:
            self._clients[credentials] = self._make(credentials)
        return self._clients[credentials]

    def _credentials(self, project_id: str) -> Credentials:
        """The project's own key; else what is good for a whole account; else any key there is."""
        book = self._credential_set
        if project_id in book.by_project:
            return ProjectKey(project_id, book.by_project[project_id])
        if book.token is not None:
            return StaticToken(book.token)
        if book.account is not None:
            return Account(*book.account)
        known_id, api_key = next(iter(book.by_project.items()))
        return ProjectKey(known_id, api_key)

    def _make(self, credentials: Credentials) -> Client:
        settings = self._settings
        tokens = TokenSource(self._api, settings.token_endpoint, credentials, self._request_policy)
        return Client(
            self._api,
            settings.api_url,
            tokens,
            self._request_policy,
            json_limit_bytes=settings.api_response_max_size,
            allow_http=settings.allow_http,
        )
