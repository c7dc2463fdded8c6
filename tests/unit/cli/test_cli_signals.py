from __future__ import annotations

import asyncio
import os
import signal

import pytest

from bulkdl.cli.signals import handle_stop_signals
from bulkdl.failure_policy import ExitCode

pytestmark = pytest.mark.usefixtures("own_signals")


@pytest.fixture
def ended(monkeypatch):
    """The exit codes with which the process would have ended."""
    codes = []
    monkeypatch.setattr("bulkdl.cli.signals._exit_immediately", codes.append)
    return codes


async def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    # The handler runs in a callback of the loop, which two turns are enough for.
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
async def test_each_signal_stops_once_and_the_first_gives_the_exit_code(numbers, code):
    stops = []
    with handle_stop_signals(stops.append) as caught:
        for number in numbers:
            await send(number)
    assert stops == [ExitCode(128 + number) for number in numbers]
    assert caught.exit_code == code


@pytest.mark.parametrize("left", [False, True])
async def test_the_third_signal_ends_the_process_even_after_the_work(left, ended):
    with handle_stop_signals(lambda cause: None):
        await send(signal.SIGTERM)
        await send(signal.SIGINT)
        assert ended == []
        if not left:
            await send(signal.SIGINT)
    await send(signal.SIGINT)
    assert ended[0] == ExitCode.TERMINATED


async def test_a_loop_that_hangs_can_be_ended(ended):
    with handle_stop_signals(lambda cause: None):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)  # the loop has no turn in between
        assert ended == [ExitCode.INTERRUPTED]


async def test_the_handlers_are_gone_afterwards():
    with handle_stop_signals(lambda cause: None):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
