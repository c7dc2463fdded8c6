"""Run ``bench.delayed`` as a process, and count the requests of one run of bulkdl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.settings import REPOSITORY, BenchSettings
from bench.spy import record_profile


@dataclass(slots=True)
class DelayedServer:
    """The simulator process. *request_counts* is filled after it has exited."""

    api_url: str
    project: dict[str, str]
    account: dict[str, str]
    expected: list[list[Any]]
    process: subprocess.Popen[str]
    request_counts: Counter[str] = field(default_factory=Counter)

    @property
    def project_environment(self) -> dict[str, str]:
        return {"UP42_PROJECT_ID": self.project["id"], "UP42_PROJECT_API_KEY": self.project["api_key"]}

    @property
    def account_environment(self) -> dict[str, str]:
        return {"UP42_USERNAME": self.account["username"], "UP42_PASSWORD": self.account["password"]}

    def record_last_run(
        self, command: Sequence[str], scratch: Path, settings: BenchSettings, environment: Mapping[str, str]
    ) -> list[str]:
        """Run *command* once more to count its requests. Return its profile if there is a profiler."""
        self.process.send_signal(signal.SIGUSR1)
        if settings.profiler:
            return record_profile(command, scratch, settings.profiler, environment)
        subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)  # noqa: S603
        return []


@contextmanager
def run_delayed_server(*options: str) -> Iterator[DelayedServer]:
    command = [sys.executable, "-m", "bench.delayed", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - stdout is a pipe
        line = json.loads(process.stdout.readline())
        origin = DelayedServer(
            line["api_url"], line["projects"][0], line["account"], line["expected"], process
        )
        try:
            yield origin
        finally:
            process.terminate()
            origin.request_counts = Counter(json.loads(process.stdout.readline() or "{}"))
