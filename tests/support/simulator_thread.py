"""Run the simulator in a thread or in a process, so that a test does not measure it."""

import asyncio
import multiprocessing
import threading
from contextlib import contextmanager

from bulkdl.simulator import Simulator


@contextmanager
def run_simulator(account, options=None, faults=None):
    """Yield a simulator that runs in another thread: the event loop of the test has no tasks of it."""
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


@contextmanager
def run_simulator_process(account, options=None):
    """Yield a simulator that runs in another process: its memory does not count, and is not traced."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(account, options, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(30), "the simulator did not start"
        yield _StartedSimulator(account, options, ours.recv())
    finally:
        ours.close()
        process.terminate()
        process.join()


class _StartedSimulator(Simulator):
    """What a test knows about a simulator of another process."""

    api_url = ""

    def __init__(self, account, options, api_url):
        super().__init__(account, options)
        self.api_url = api_url


def _serve(account, options, connection):
    async def serve():
        async with Simulator(account, options) as simulator:
            connection.send(simulator.api_url)
            await asyncio.Event().wait()

    asyncio.run(serve())
