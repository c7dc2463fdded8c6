from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bulkdl.cli.signals import handle_stop_signals
from bulkdl.failure_policy import ExitCode

pytestmark = pytest.mark.usefixtures("own_signals")


@pytest.fixture
def exit_codes(monkeypatch):
    """Record the exit codes instead of exiting the process."""
    codes = []
    monkeypatch.setattr("bulkdl.cli.signals._exit_immediately", codes.append)
    return codes


async def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    # The handler schedules a callback in the event loop; wait until the callback has run.
    reached = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, reached.set)
    await reached.wait()


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([], None),
        ([signal.SIGINT], ExitCode.INTERRUPTED),
        ([signal.SIGTERM], ExitCode.TERMINATED),
        ([signal.SIGTERM, signal.SIGINT], ExitCode.TERMINATED),
        ([signal.SIGINT, signal.SIGINT], ExitCode.INTERRUPTED),
    ],
)
async def test_handle_stop_signals_calls_stop_once_per_signal(numbers, code):
    stops = []
    with handle_stop_signals(stops.append) as caught:
        for number in numbers:
            await send(number)
    assert stops == [ExitCode(128 + number) for number in numbers]
    assert caught.exit_code == code


@pytest.mark.parametrize("left", [False, True])
async def test_handle_stop_signals_with_a_third_signal_exits_the_process(left, exit_codes):
    with handle_stop_signals(lambda cause: None):
        await send(signal.SIGTERM)
        await send(signal.SIGINT)
        assert exit_codes == []
        if not left:
            await send(signal.SIGINT)
    await send(signal.SIGINT)
    assert exit_codes[0] == ExitCode.TERMINATED


async def test_handle_stop_signals_when_the_loop_hangs_exits_the_process(exit_codes):
    with handle_stop_signals(lambda cause: None):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)  # the event loop does not run between the signals
        assert exit_codes == [ExitCode.INTERRUPTED]


async def test_handle_stop_signals_restores_the_previous_handlers():
    with handle_stop_signals(lambda cause: None):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
