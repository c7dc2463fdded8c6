"""Run the simulator in a thread, so that the event loop of a test has no tasks of the simulator."""

import asyncio
import threading
from contextlib import contextmanager

from bulkdl.simulator import Simulator


@contextmanager
def run_simulator(account, options=None, faults=None):
    """Yield a simulator that runs in another thread."""
    started, loops = threading.Event(), []
    simulator = Simulator(account, options, faults=faults)

    async def serve():
        end = asyncio.Event()
        loops.append((asyncio.get_running_loop(), end))
        async with simulator:
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="simulator")
    thread.start()
    try:
        assert started.wait(30), "the simulator did not start"
        yield simulator
    finally:
        loop, end = loops[0]
        loop.call_soon_threadsafe(end.set)
        thread.join()
