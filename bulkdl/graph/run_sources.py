"""Opens the sources of a run: each with sessions of its own, all within the same request limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

from bulkdl.graph.pool_limits import ConnectionLimits
from bulkdl.http.retry import RetryPolicy
from bulkdl.listings import PlannedOutput
from bulkdl.settings import CredentialSet, Settings
from bulkdl.sources.interfaces import Source, SourceContext, SourceType
from bulkdl.sources.registry import source_layout
from bulkdl.sources.sessions import SessionOptions, Sessions, SharedLimits, retry_policy
from bulkdl.telemetry.events import STORAGE, Reporter
from bulkdl.telemetry.http_tracing import trace_requests
from bulkdl.transfer.interfaces import MakeKey


class RunSources:
    """
    The sources of one open Downloader, by name.

    An async context manager, which opens the sessions and the sources.

    Attributes:
        opened: The open sources; empty outside the context.
        retry_policy: The retry policy of API requests and transfers.
        make_keys: Functions from an output to a function from its suffix to its key.
        value_keys: The names and dates in the path templates.
    """

    def __init__(
        self,
        settings: Settings,
        source_types: Sequence[SourceType],
        credentials: CredentialSet,
        connections: Mapping[str, ConnectionLimits],
        reporter: Reporter,
    ) -> None:
        self.opened: Mapping[str, Source] = {}
        self.retry_policy: RetryPolicy = retry_policy(settings)
        self._settings = settings
        self._credentials = credentials
        self._types = {source_type.name: source_type for source_type in source_types}
        layouts = {name: source_layout(each, settings) for name, each in self._types.items()}
        self.make_keys: Mapping[str, Callable[[PlannedOutput], MakeKey]] = {
            name: layout.make_key for name, layout in layouts.items()
        }
        self.value_keys = {name: layout.value_keys for name, layout in layouts.items()}
        shared = SharedLimits(settings)
        self._sessions = {
            name: _new_sessions(settings, each, connections[name], shared, reporter)
            for name, each in self._types.items()
        }
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            opened = {}
            for name, source_type in self._types.items():
                sessions = await stack.enter_async_context(self._sessions[name])
                context = SourceContext(self._settings, self._credentials, sessions)
                opened[name] = await stack.enter_async_context(source_type.open(context))
            next(iter(self._sessions.values())).log_proxies()
            self._stack = stack.pop_all()
        self.opened = opened
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def scopes(self, name: str) -> tuple[str, ...]:
        """
        Return all scopes of the open source *name*.

        Raises:
            RuntimeError: The sources are not open.
        """
        if name not in self.opened:
            raise RuntimeError("the sources are not open; use them inside `async with`")
        return self.opened[name].scopes


def _new_sessions(
    settings: Settings,
    source_type: SourceType,
    limits: ConnectionLimits,
    shared: SharedLimits,
    reporter: Reporter,
) -> Sessions:
    trace = partial(trace_requests, reporter=reporter, source=source_type.name)
    api = SessionOptions(limits.api, partial(trace, label=source_type.endpoint_label))
    storage = SessionOptions(limits.storage, partial(trace, label=lambda _method, _url: STORAGE))
    return Sessions(settings, api, storage, shared)
