"""Wait until the event loop has nothing to do, instead of counting its iterations."""

import asyncio

_LIMIT = 10_000  # iterations; a loop that is still busy is a defect of the test


async def wait_until_idle() -> None:
    """
    Return when each other task waits for something that has not happened yet.

    Data that is already in a socket of this process counts as work. Timers, threads and other processes do
    not.
    """
    loop = asyncio.get_running_loop()
    idle_iterations = 0
    for _ in range(_LIMIT):
        await asyncio.sleep(0)
        # An iteration runs the callbacks that were ready at its start. If no callback is left or was added,
        # only this task was ready. The second iteration polls the sockets once more.
        idle_iterations = 0 if loop._ready else idle_iterations + 1  # type: ignore[attr-defined]
        if idle_iterations == 2:
            return
    raise AssertionError(f"the event loop is still busy after {_LIMIT} iterations")
