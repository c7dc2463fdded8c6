"""
A listening port that can be closed temporarily and reopened with the same number.

The module accepts the connections itself. A server of asyncio that is closed loses the connections that it
has accepted in the same iteration of the event loop: it does not serve them and does not close them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

_SHUTDOWN_S = 0.2
_BACKLOG = 128
_ACCEPT_RETRY_S = 1.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """
    Context manager that listens on a port. At its end, each accepted connection is closed.

    Attributes:
        port: The requested port, or a free port if 0 was requested.
    """

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._handler = handler
        self._server: _Server | None = None
        self._sockets: list[socket.socket] = []
        self._accept_tasks: set[asyncio.Task[Any]] = set()
        self._reopen_timer: asyncio.TimerHandle | None = None
        self._reopen_tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = _Server(self._handler, access_log=None, handler_cancellation=True)
        await self._open(self._server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reopen_timer:
            self._reopen_timer.cancel()
        await asyncio.gather(*self._reopen_tasks, return_exceptions=True)
        if self._server is None:
            return
        self._close_sockets()
        await asyncio.gather(*self._accept_tasks, return_exceptions=True)
        self._server.pre_shutdown()
        await self._server.shutdown(_SHUTDOWN_S)
        self._server.abort_connections()
        await self._server.is_idle.wait()

    async def take_down(self, seconds: float) -> None:
        """Close all connections and refuse new connections for *seconds*."""
        if self._server is None or not self._sockets:
            return
        self._close_sockets()
        self._server.abort_connections()
        self._reopen_timer = asyncio.get_running_loop().call_later(seconds, self._reopen, self._server)

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._sockets.clear()

    def _reopen(self, server: _Server) -> None:
        task = asyncio.create_task(self._open(server), name=f"listen on {self.port}")
        self._reopen_tasks.add(task)
        task.add_done_callback(self._reopen_tasks.discard)

    async def _open(self, server: _Server) -> None:
        # asyncio resolves the host and binds the sockets, but does not listen on them.
        bound = await asyncio.get_running_loop().create_server(
            server, self.host, self.port, reuse_address=True, start_serving=False
        )
        self._sockets = [listening.dup() for listening in bound.sockets]
        bound.close()
        for listening in self._sockets:
            listening.listen(_BACKLOG)
        self.port = self._sockets[0].getsockname()[1]
        server.is_open = True
        self._start_accepting(server)

    def _start_accepting(self, server: _Server) -> None:
        for listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening, server)

    def _accept(self, listening: socket.socket, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # too many open files; the connection waits in the queue of the kernel
            loop.remove_reader(listening)
            loop.call_later(_ACCEPT_RETRY_S, self._start_accepting, server)
            return
        connection.setblocking(False)
        task = asyncio.create_task(loop.connect_accepted_socket(server, connection))
        self._accept_tasks.add(task)
        task.add_done_callback(self._accept_tasks.discard)


class _Server(web.Server):
    """
    Server that can abort its connections.

    ``shutdown`` of aiohttp waits until the clients have read all data, and it does not know the connections
    that are accepted later.

    Attributes:
        is_open: If False, new connections are aborted.
        is_idle: Set while there is no connection.
    """

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler, **options)
        self.is_open = False
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        self._transports: dict[RequestHandler, asyncio.Transport] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._transports[handler] = transport
        self.is_idle.clear()
        if not self.is_open:
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._transports.pop(handler, None)
        if not self._transports:
            self.is_idle.set()

    def abort_connections(self) -> None:
        self.is_open = False
        for transport in self._transports.values():
            transport.abort()
