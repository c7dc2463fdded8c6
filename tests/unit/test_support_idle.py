"""The helper that waits until the event loop is idle."""

import asyncio
import socket

import pytest

from support import idle
from support.idle import wait_until_idle


async def test_wait_until_idle_returns_after_a_long_chain_of_tasks():
    steps = []

    async def chain(length):
        steps.append(length)
        if length:
            await asyncio.create_task(chain(length - 1))

    task = asyncio.create_task(chain(200))
    await wait_until_idle()
    assert task.done()
    assert len(steps) == 201


async def test_wait_until_idle_delivers_data_that_is_in_a_socket():
    near, far = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=near)
    reading = asyncio.create_task(reader.readexactly(3))
    await wait_until_idle()
    far.send(b"abc")
    await wait_until_idle()
    assert reading.result() == b"abc"
    writer.close()
    far.close()


async def test_wait_until_idle_returns_while_tasks_wait():
    waiting = asyncio.create_task(asyncio.Event().wait())
    await wait_until_idle()
    assert not waiting.done()
    waiting.cancel()


async def test_wait_until_idle_with_a_busy_task_fails(monkeypatch):
    def spin():
        if spinning:
            asyncio.get_running_loop().call_soon(spin)

    monkeypatch.setattr(idle, "_LIMIT", 50)
    spinning = True
    spin()
    with pytest.raises(AssertionError, match="still busy"):
        await wait_until_idle()
    spinning = False
