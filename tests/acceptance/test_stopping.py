"""SIGINT and SIGTERM in every stage of a run, on big slow transfers, and while the API is hanging."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
from test_stopping_world import FOREVER_S, SLACK_BYTES, place

from bulkdl.simulator import Account

SMALL = Account(projects=1, jobs=2, archive_bytes=20_000)
BIG = Account(projects=1, jobs=1, archive_bytes=12_000_000)
AT_ONCE_S = 10.0  # far below the usual grace of 20, far above what it takes
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def hanging(endpoint: str, **more: Any) -> dict[str, Any]:
    return {"fault": "latency", "seconds": FOREVER_S, "endpoint": endpoint, **more}


def slow(bytes_per_s: int) -> dict[str, Any]:
    return {"fault": "drip", "bytes_per_s": bytes_per_s, "server": "storage"}


@dataclass(frozen=True)
class Stage:
    """
    A place in the work at which a signal comes.

    Attributes:
        reached: When that endpoint has been asked so often,
        sent_bytes: and so many bytes of archives have been sent.
        uses_grace: Something small is in flight that is given the whole grace.
    """

    rules: tuple[Mapping[str, Any], ...]
    reached: tuple[str, int]
    sent_bytes: int = 0
    account: Account = SMALL
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    uses_grace: bool = False


STAGES = {
    "token": Stage((hanging("token"),), ("token", 1)),
    "second page of jobs": Stage((hanging("jobs", nth=2, per="all"),), ("jobs", 2)),
    "tasks": Stage((hanging("tasks"),), ("tasks", 2)),
    "lists of quicklooks": Stage((hanging("quicklooks"),), ("quicklooks", 1)),
    "signing": Stage((hanging("results"),), ("results", 2)),
    "storage": Stage((hanging("object"),), ("object", 2)),
    "one connection": Stage(
        (slow(4_000_000),), ("object", 2), 5_000_000, BIG, ("--connections", "1", "--grace", "1")
    ),
    "several connections": Stage(
        (slow(1_000_000),),
        ("object", 5),
        8_000_000,
        BIG,
        ("--archives", "6", "--grace", "0.5"),
        {"BULKDL_SEGMENT_BYTES": str(4 << 20)},
    ),
    "back-off": Stage(
        ({"fault": "throttled", "retry_after": 300, "server": "storage"},), ("object", 1), account=SMALL
    ),
    "back-off of the API": Stage(
        ({"fault": "throttled", "retry_after": 300, "endpoint": "tasks"},), ("tasks", 1)
    ),
    "quicklooks": Stage(
        ({"fault": "stall", "at_byte": 0, "seconds": FOREVER_S, "endpoint": "quicklook"},),
        ("quicklook", 2),
        args=("--grace", "0.3"),
        uses_grace=True,
    ),
    "no grace": Stage(
        ({"fault": "stall", "at_byte": 100, "seconds": FOREVER_S, "endpoint": ["quicklook", "geojson"]},),
        ("geojson", 2),
        args=("--grace", "0"),
        uses_grace=True,
    ),
}
# SIGTERM everywhere, SIGINT where another part of the program has the word.
CASES = [(name, signal.SIGTERM) for name in STAGES] + [
    (name, signal.SIGINT) for name in ("lists of quicklooks", "one connection")
]


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_a_signal_ends_the_run_in_order_and_the_next_one_goes_on(
    tmp_path: Path,
    name: str,
    number: signal.Signals,
) -> None:
    stage, code = STAGES[name], CODES[number]
    async with place(tmp_path, stage.account, **stage.env) as here:
        here.freeze()
        here.meets(*stage.rules)
        run = await here.start(*stage.args)
        endpoint, count = stage.reached
        await run.until(lambda: len(here.to(endpoint)) >= count and here.sent_bytes >= stage.sent_bytes)
        run.stop(number)
        assert await run.ended(AT_ONCE_S) == code
        assert run.is_quiet()
        assert bool(run.logged("run.grace_ended")) is stage.uses_grace
        assert run.out.strip().endswith(f"exit code {code}")
        assert here.is_in_order(code)
        assert here.missing()
        moved_bytes = here.reports[-1]["moved_bytes"]
        assert moved_bytes >= stage.sent_bytes - SLACK_BYTES
        here.meets()
        again = await here.bulkdl("--format", "json")
        assert await again.ended() == 0, again.log
        assert here.is_right()
        assert here.sent_bytes <= 1.05 * here.needed_bytes


async def test_what_can_end_within_the_grace_ends_and_what_cannot_is_stopped_at_once(
    tmp_path: Path,
) -> None:
    """Two archives: one needs a second more, the other half a minute, and the grace is 8."""
    async with place(tmp_path, BIG) as here:
        here.meets({**slow(4_000_000), "nth": 1, "per": "all"}, {**slow(400_000), "nth": 2, "per": "all"})
        run = await here.start("--connections", "1", "--grace", "8", "--format", "json")
        await run.until(lambda: [each.sent_bytes > 400_000 for each in here.to("object")] == [True, True])
        run.stop()
        await run.until(lambda: run.logged("transfer.cancelled"))
        quick, sluggish = here.to("object")
        at_signal_bytes = quick.sent_bytes
        assert await run.ended(AT_ONCE_S) == 143
        assert run.is_quiet()
        assert at_signal_bytes < 12_000_000 <= quick.sent_bytes
        assert sluggish.sent_bytes < 3_000_000
        assert not run.logged("run.grace_ended")
        archives = [count for count in run.summary["counts"] if count["kind"] == "archive"]
        assert {count["outcome"] for count in archives} == {"completed", "cancelled"}
        assert here.is_in_order(143)


async def test_what_backs_off_within_the_grace_is_not_waited_for(tmp_path: Path) -> None:
    """When the signal comes it looks as if it would end; then the storage asks for five minutes."""
    async with place(tmp_path, BIG) as here:
        here.meets(
            {**slow(6_000_000), "nth": 1},
            {"fault": "cut", "at_byte": 6_000_000, "nth": 1, "server": "storage"},
            {"fault": "throttled", "retry_after": 300, "server": "storage", "ranged": True},
        )
        run = await here.start("--connections", "1", "--grace", "60")
        await run.until(lambda: here.sent_bytes > 1_000_000)
        run.stop()
        assert await run.ended(2 * AT_ONCE_S) == 143
        assert here.is_in_order(143)
        assert here.reports[-1]["moved_bytes"] > 8_000_000


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_aborts_and_loses_no_more_than_the_first(
    tmp_path: Path,
    second: signal.Signals,
) -> None:
    """The transfers would fit the grace, and are held up by a picture besides."""
    async with place(tmp_path, BIG) as here:
        here.meets(
            slow(3_000_000),
            {"fault": "stall", "at_byte": 0, "seconds": FOREVER_S, "endpoint": "quicklook"},
        )
        run = await here.start("--connections", "1", "--grace", "600")
        await run.until(lambda: here.sent_bytes > 5_000_000)
        run.stop()
        await run.until(lambda: run.logged("run.draining"))
        assert not run.logged("transfer.cancelled")
        run.stop(second)
        assert await run.ended(AT_ONCE_S) == 143
        assert run.is_quiet()
        assert here.is_in_order(143)
        here.meets()
        again = await here.bulkdl()
        assert await again.ended() == 0
        assert here.is_right()
        assert here.sent_bytes <= 1.05 * here.needed_bytes


HANGS_AT_THE_END = """
import asyncio, sys
from bulkdl import cli
from bulkdl.graph.downloader import Downloader

async def never(downloader, *_):
    sys.stderr.write('{"event": "test.hangs"}\\n')
    await downloader._stop.aborting.wait()
    sys.stderr.write('{"event": "test.aborted"}\\n')
    await asyncio.Event().wait()

Downloader._conclude = never
cli.main()
"""


@pytest.mark.parametrize(
    ("third", "codes"), [(signal.SIGTERM, {-signal.SIGTERM}), (signal.SIGINT, {130, -signal.SIGINT})]
)
async def test_a_third_signal_kills_what_does_not_listen(
    tmp_path: Path,
    third: signal.Signals,
    codes: set[int],
) -> None:
    async with place(tmp_path, SMALL) as here:
        run = await here.start(code=HANGS_AT_THE_END)
        await run.until(lambda: run.logged("test.hangs"))
        run.stop()
        run.stop(signal.SIGINT)  # the one that came second
        await run.until(lambda: run.logged("test.aborted"))
        run.stop(third)
        assert await run.ended(AT_ONCE_S) in codes
        assert "\nTraceback" not in run.log
        again = await here.bulkdl()
        assert await again.ended() == 0
        assert here.is_right()


@pytest.mark.parametrize("number", CODES)
async def test_a_plan_can_be_stopped_and_says_what_it_has_found(
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    async with place(tmp_path, SMALL) as here:
        here.meets(hanging("tasks", nth=1, per="all"))
        plan = await here.start("--format", "json", command="plan")
        await plan.until(lambda: len(here.to("tasks")) == 2 and len(here.to("quicklooks")) == 1)
        plan.stop(number)
        assert await plan.ended(AT_ONCE_S) == CODES[number]
        assert plan.is_quiet()
        assert plan.summary["exit_code"] == CODES[number]
        assert plan.summary["jobs"]["selected"] == 2
        assert not here.root.exists()
