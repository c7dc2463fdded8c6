"""The clock of tests: delays take no time, and work does not take time either."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from bulkdl.http.rate_limit import Cooldown

pytestmark = pytest.mark.usefixtures("virtual_clock")


async def test_virtual_clock_advances_by_the_delay_of_a_sleep():
    started_s = time.monotonic()
    await asyncio.sleep(3600)
    assert time.monotonic() - started_s == pytest.approx(3600)


async def test_virtual_clock_runs_timers_in_order():
    order = []

    async def note(delay_s):
        await asyncio.sleep(delay_s)
        order.append(delay_s)

    await asyncio.gather(*map(note, (30, 10, 20)))
    assert order == [10, 20, 30]


@pytest.mark.parametrize("is_default_pool", [True, False])
async def test_virtual_clock_waits_for_work_in_a_thread(is_default_pool):
    pool = None if is_default_pool else ThreadPoolExecutor(1)
    async with asyncio.timeout(0.001):
        await asyncio.get_running_loop().run_in_executor(pool, threading.Event().wait, 0.05)
    if pool:
        pool.shutdown()


async def test_virtual_clock_waits_for_data_in_a_socket():
    async def respond(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(0.001):
        writer.write(b"x" * (4 << 20))
        await writer.drain()
        assert len(await reader.readexactly(4 << 20)) == 4 << 20
    writer.close()
    await writer.wait_closed()
    server.close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await asyncio.Event().wait()


async def test_virtual_clock_is_the_clock_of_a_cooldown():
    cooldown = Cooldown(rand=lambda: 0.0)
    started_s = time.monotonic()
    cooldown.start("host", 600)
    await cooldown.wait("host")
    assert time.monotonic() - started_s == pytest.approx(600)
