"""The shutdown timeout, the second and the third signal, and a signal during plan."""

import signal
from pathlib import Path

import pytest

from support.cli_runs import FOREVER_S, cli_environment
from support.stop_faults import AT_ONCE_S, BIG, CODES, SMALL, hanging, slow

pytestmark = pytest.mark.slow


async def test_drain_finishes_fast_downloads_and_stops_at_the_shutdown_timeout(
    tmp_path: Path,
) -> None:
    """Of two archives, one needs 1 s more and the other 30 s. The shutdown timeout is 8 s."""
    async with cli_environment(tmp_path, BIG) as environment:
        environment.set_faults(
            {**slow(4_000_000), "nth": 1, "per": "all"}, {**slow(400_000), "nth": 2, "per": "all"}
        )
        run = await environment.start("--connections", "1", "--shutdown-timeout", "8", "--format", "json")
        await run.wait_until(
            lambda: (
                [request.sent_bytes > 400_000 for request in environment.requests_to("object")]
                == [True, True]
            )
        )
        run.send_signal()
        await run.wait_until(lambda: run.find_events("transfer.cancelled"))
        quick, sluggish = environment.requests_to("object")
        at_signal_bytes = quick.sent_bytes
        assert await run.wait_for_exit(AT_ONCE_S) == 143
        assert run.has_clean_stderr()
        assert at_signal_bytes < 12_000_000 <= quick.sent_bytes
        assert sluggish.sent_bytes < 3_000_000
        assert not run.find_events("run.shutdown_timeout")
        archives = [count for count in run.summary["counts"] if count["kind"] == "archive"]
        assert {count["outcome"] for count in archives} == {"completed", "cancelled"}
        assert environment.has_consistent_state(143)


async def test_drain_does_not_wait_for_downloads_before_a_retry(tmp_path: Path) -> None:
    """After the signal, the storage requests a delay of five minutes with Retry-After."""
    async with cli_environment(tmp_path, BIG) as environment:
        environment.set_faults(
            {**slow(6_000_000), "nth": 1},
            {"fault": "cut", "at_byte": 6_000_000, "nth": 1, "server": "storage"},
            {"fault": "throttled", "retry_after": 300, "server": "storage", "ranged": True},
        )
        run = await environment.start("--connections", "1", "--shutdown-timeout", "60")
        await run.wait_until(lambda: environment.sent_bytes > 1_000_000)
        run.send_signal()
        assert await run.wait_for_exit(2 * AT_ONCE_S) == 143
        assert environment.has_consistent_state(143)
        assert environment.run_reports[-1]["downloaded_bytes"] > 8_000_000


@pytest.mark.parametrize("second", [signal.SIGINT])
async def test_second_signal_aborts_and_keeps_received_bytes(
    tmp_path: Path,
    second: signal.Signals,
) -> None:
    """The archives could finish within the shutdown timeout, but a quicklook stalls."""
    async with cli_environment(tmp_path, BIG) as environment:
        environment.set_faults(
            slow(3_000_000),
            {"fault": "stall", "at_byte": 0, "seconds": FOREVER_S, "endpoint": "quicklook"},
        )
        run = await environment.start("--connections", "1", "--shutdown-timeout", "600")
        await run.wait_until(lambda: environment.sent_bytes > 5_000_000)
        run.send_signal()
        await run.wait_until(lambda: run.find_events("run.draining"))
        assert not run.find_events("transfer.cancelled")
        run.send_signal(second)
        assert await run.wait_for_exit(AT_ONCE_S) == 143
        assert run.has_clean_stderr()
        assert environment.has_consistent_state(143)
        environment.set_faults()
        again = await environment.bulkdl()
        assert await again.wait_for_exit() == 0
        assert environment.has_complete_output()
        assert environment.sent_bytes <= 1.05 * environment.needed_bytes


HANGS_AT_THE_END = """
import asyncio, os, time
from bulkdl import cli
from bulkdl.cli import signals
from bulkdl.graph.assembly import RunAssembly

def say(word):
    os.write(2, b'{{"event": "test.%s"}}\\n' % word.encode())  # also in a signal handler

async def never(assembly, *_):
    say("hangs")
    {hang}

class ReceivedSignals(signals.ReceivedSignals):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "count":
            say("caught")

signals.ReceivedSignals = ReceivedSignals
RunAssembly.store_report = never
cli.main()
"""
HANGS = {
    "a task that is not heard of again": "await asyncio.Event().wait()",
    "a blocked event loop": "time.sleep(3600)",
}


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS)
@pytest.mark.parametrize("numbers", [[signal.SIGINT] * 3, [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]])
async def test_third_signal_exits_a_process_that_hangs(
    tmp_path: Path, numbers: list[signal.Signals], hang: str
) -> None:
    """The process exits with the code of the first signal and prints one line."""
    async with cli_environment(tmp_path, SMALL) as environment:
        run = await environment.start(code=HANGS_AT_THE_END.format(hang=hang))
        await run.wait_until(lambda: run.find_events("test.hangs"))
        for count, number in enumerate(numbers, 1):
            run.send_signal(number)
            await run.wait_until(lambda count=count: len(run.find_events("test.caught")) == 1 + count)
        assert await run.wait_for_exit(AT_ONCE_S) == CODES[numbers[0]]
        assert run.log.endswith("\nbulkdl: exited immediately; run the same command again to resume\n")
        assert [line for line in run.log.splitlines() if not line.startswith("{")] == run.log.splitlines()[
            -1:
        ]
        again = await environment.bulkdl()
        assert await again.wait_for_exit() == 0
        assert environment.has_complete_output()


@pytest.mark.parametrize("number", CODES)
async def test_signal_during_plan_prints_the_outputs_found(
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    async with cli_environment(tmp_path, SMALL) as environment:
        environment.set_faults(hanging("tasks", nth=1, per="all"))
        plan = await environment.start("--format", "json", command="plan")
        await plan.wait_until(
            lambda: (
                len(environment.requests_to("tasks")) == 2 and len(environment.requests_to("quicklooks")) == 1
            )
        )
        plan.send_signal(number)
        assert await plan.wait_for_exit(AT_ONCE_S) == CODES[number]
        assert plan.has_clean_stderr()
        assert plan.summary["exit_code"] == CODES[number]
        assert plan.summary["containers"]["selected"] == 2
        assert not environment.root.exists()
