"""Faults and accounts for the tests that stop a run with a signal."""

import signal
from typing import Any

from bulkdl.simulator import SimulatedAccount
from support.cli_runs import FOREVER_S

SMALL = SimulatedAccount(projects=1, jobs=2, archive_bytes=20_000)
BIG = SimulatedAccount(projects=1, jobs=1, archive_bytes=12_000_000)
AT_ONCE_S = 10.0  # far below the default shutdown timeout of 20 s, far above the measured time
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def hanging(endpoint: str, **more: Any) -> dict[str, Any]:
    return {"fault": "latency", "seconds": FOREVER_S, "endpoint": endpoint, **more}


def slow(bytes_per_s: int) -> dict[str, Any]:
    return {"fault": "drip", "bytes_per_s": bytes_per_s, "server": "storage"}
