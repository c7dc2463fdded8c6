"""A listening port that can be closed temporarily and reopened with the same number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from aiohttp import web

_SHUTDOWN_S = 0.2

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """
    Attributes:
        port: The requested port, or a free port if 0 was requested.
    """

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._handler = handler
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self._reopen_timer: asyncio.TimerHandle | None = None
        self._reopen_tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        server = web.Server(self._handler, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reopen_timer:
            self._reopen_timer.cancel()
        await asyncio.gather(*self._reopen_tasks, return_exceptions=True)
        if self._runner:
            await self._runner.cleanup()

    async def take_down(self, seconds: float) -> None:
        """Close all connections and refuse new connections for *seconds*."""
        if self._site is None or self._runner is None:
            return
        site, self._site = self._site, None
        await site.stop()
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport:
                connection.transport.abort()
        self._reopen_timer = asyncio.get_running_loop().call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        task = asyncio.create_task(self._open(), name=f"listen on {self.port}")
        self._reopen_tasks.add(task)
        task.add_done_callback(self._reopen_tasks.discard)

    async def _open(self) -> None:
        assert self._runner is not None, "entered"  # noqa: S101 - for the type checker
        self._site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
        await self._site.start()
        self.port = self._runner.addresses[0][1]
