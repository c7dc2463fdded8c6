"""Check that the listener of the simulator closes each connection that it accepted."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from bulkdl.simulator.listener import Handler, Listener
from support.idle import wait_until_idle

# A connection passes several iterations of the event loop until it can serve requests.
ITERATIONS = range(6)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def _respond(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="ok")


async def _flood(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(1 << 20))


async def _stall(_request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with Listener(_respond, "127.0.0.1", 0) as opened:
        yield opened


def connect(listener: Listener) -> socket.socket:
    """Connect without the event loop. The kernel accepts the connection at once."""
    client = socket.create_connection((listener.host, listener.port))
    client.setblocking(False)
    return client


async def is_closed(client: socket.socket) -> bool:
    """Return whether the server has closed the connection of *client*, which reads the data before that."""
    await wait_until_idle()
    try:
        while client.recv(1 << 20):
            pass
        return True
    except ConnectionResetError:
        return True
    except BlockingIOError:
        return False


@pytest.mark.parametrize("iterations", ITERATIONS)
async def test_listener_taken_down_while_it_accepts_closes_the_connection(
    listener: Listener, iterations: int
) -> None:
    with connect(listener) as client:
        for _ in range(iterations):
            await asyncio.sleep(0)
        await listener.take_down(3600)
        assert await is_closed(client)


@pytest.mark.parametrize("iterations", ITERATIONS)
async def test_listener_stopped_while_it_accepts_closes_the_connection(iterations: int) -> None:
    async with Listener(_respond, "127.0.0.1", 0) as listener:
        client = connect(listener)
        for _ in range(iterations):
            await asyncio.sleep(0)
    with client:
        assert await is_closed(client)


@pytest.mark.parametrize("handler", [_stall, _flood])
async def test_listener_stopped_while_a_request_is_open_closes_the_connection(handler: Handler) -> None:
    async with Listener(handler, "127.0.0.1", 0) as listener:
        client = connect(listener)
        client.send(REQUEST)
        await wait_until_idle()
    with client:
        assert await is_closed(client)


async def test_listener_after_it_was_down_serves_new_connections_on_its_port(listener: Listener) -> None:
    await listener.take_down(0)
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://{listener.host}:{listener.port}/") as response:
                    assert await response.text() == "ok"
                return
            except aiohttp.ClientConnectorError:
                continue
