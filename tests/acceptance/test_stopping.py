"""SIGINT and SIGTERM in every stage of a run, during large slow transfers, and while the API hangs."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bulkdl.simulator import SimulatedAccount
from bulkdl.sources.up42_jobs.models import Kind
from support.cli_runs import FOREVER_S, SLACK_BYTES, SOCKETS_BYTES, CliEnvironment, cli_environment
from support.stop_faults import AT_ONCE_S, BIG, CODES, SMALL, hanging, slow

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Stage:
    """
    The point in a run at which a signal is sent.

    Attributes:
        reached: An endpoint and the number of requests to it before the signal.
        sent_bytes: The number of archive bytes before the signal.
        uses_grace: A small download is running that gets the whole shutdown timeout.
    """

    rules: tuple[Mapping[str, Any], ...]
    reached: tuple[str, int]
    sent_bytes: int = 0
    account: SimulatedAccount = SMALL
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
        (slow(4_000_000),), ("object", 2), 5_000_000, BIG, ("--connections", "1", "--shutdown-timeout", "1")
    ),
    "several connections": Stage(
        (slow(1_000_000),),
        ("object", 5),
        8_000_000,
        BIG,
        ("--archive-concurrency", "6", "--shutdown-timeout", "0.5"),
        {"BULKDL_SEGMENT_MIN_SIZE": str(4 << 20), "BULKDL_SEGMENT_IF_SLOWER_THAN": "0"},
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
        args=("--shutdown-timeout", "0.3"),
        uses_grace=True,
    ),
    "no grace": Stage(
        ({"fault": "stall", "at_byte": 100, "seconds": FOREVER_S, "endpoint": ["quicklook", "geojson"]},),
        ("geojson", 2),
        args=("--shutdown-timeout", "0"),
        uses_grace=True,
    ),
}
# SIGTERM at every point, SIGINT where another part of the program handles it.
CASES = [(name, signal.SIGTERM) for name in STAGES] + [(name, signal.SIGINT) for name in ("one connection",)]


def small_bytes(environment: CliEnvironment) -> int:
    """Count the outputs that are not archives."""
    return sum(
        output.size_bytes
        for output in environment.simulator.expected_outputs()
        if output.kind != Kind.ARCHIVE
    )


@pytest.mark.parametrize(("name", "number"), CASES)
async def test_signal_drains_the_run_and_the_next_run_resumes(
    tmp_path: Path,
    name: str,
    number: signal.Signals,
) -> None:
    stage, code = STAGES[name], CODES[number]
    async with cli_environment(tmp_path, stage.account, **stage.env) as environment:
        environment.remember_bodies()
        environment.set_faults(*stage.rules)
        run = await environment.start(*stage.args)
        endpoint, count = stage.reached
        await run.wait_until(
            lambda: (
                len(environment.requests_to(endpoint)) >= count and environment.sent_bytes >= stage.sent_bytes
            )
        )
        run.send_signal(number)
        assert await run.wait_for_exit(AT_ONCE_S) == code
        assert run.has_clean_stderr()
        assert bool(run.find_events("run.shutdown_timeout")) is stage.uses_grace
        summary_line, hint = run.out.strip().splitlines()[-2:]
        assert summary_line.endswith(f"exit code {code}")
        assert hint == "run the same command again to download the remaining outputs"
        assert environment.has_consistent_state(code)
        assert environment.find_missing_outputs()
        downloaded_bytes = environment.run_reports[-1]["downloaded_bytes"]
        assert downloaded_bytes >= stage.sent_bytes - SLACK_BYTES
        environment.set_faults()
        again = await environment.bulkdl("--format", "json")
        assert await again.wait_for_exit() == 0, again.log
        assert environment.has_complete_output()
        downloaded_bytes += environment.run_reports[-1]["downloaded_bytes"]
        assert downloaded_bytes <= 1.02 * (environment.needed_bytes + small_bytes(environment))
        # Bytes in the socket buffers of a closed connection were sent, but the run did not receive them.
        assert environment.sent_bytes <= 1.05 * environment.needed_bytes + SOCKETS_BYTES * len(
            environment.requests_to("object")
        )
