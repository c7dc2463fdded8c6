"""
``python -m bench.delayed``: run the simulator with delayed responses.

The account has equal jobs, or (``--assets``) the storage of today's API. It prints the API URL, the
credentials and the expected files. When it exits, it prints the number of requests per endpoint since the
last ``SIGUSR1``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from bulkdl.simulator import ExpectedOutput, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.account import SimulatedJob
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.simulator.v2.expected import ExpectedFile

_CANDIDATES = 20


@dataclass(frozen=True)
class EqualJobs(SimulatedAccount):
    """
    One project with succeeded jobs that have the same number of tasks.

    Attributes:
        tasks: Number of tasks per job.
    """

    projects: int = 1
    tasks: int = 3

    @cached_property
    def _numbers(self) -> list[int]:
        found: list[int] = []
        for number in range(self.jobs * _CANDIDATES):
            if len(found) == self.jobs:
                break
            if self._is_suitable(super().job(0, number)):
                found.append(number)
        return found

    def _is_suitable(self, job: SimulatedJob) -> bool:
        whole = all(task.features for task in job.tasks)
        return whole and job.status == "SUCCEEDED" and job.mode == "DEFAULT" and len(job.tasks) == self.tasks

    def job_count(self, project: int) -> int:
        return len(self._numbers) if project == 0 else 0

    def job(self, project: int, number: int) -> SimulatedJob:
        return super().job(project, self._numbers[number])

    def find_job(self, project: int, job_id: str) -> SimulatedJob | None:
        index = self.ids.decode(job_id)
        if index is None or index.kind is not IdKind.JOB or index.job not in self._numbers:
            return None
        return super().job(project, index.job)


def describe_output(output: ExpectedOutput) -> list[object]:
    """Return the identity, the size and the checksum of *output*."""
    digest = hashlib.sha256(output.read()).hexdigest()
    return [output.job_id, output.task_id, output.kind.value, output.name, output.size_bytes, digest]


def describe_file(file: ExpectedFile) -> list[object]:
    """Return the kinds of places, the number of places, the size and the checksum of *file*."""
    in_stac = any(place.roles for place in file.places)
    return [in_stac, len(file.places), file.size_bytes, hashlib.sha256(file.read()).hexdigest()]


def create_account(options: argparse.Namespace) -> SimulatedAccount:
    if options.assets == 0:
        return EqualJobs(jobs=options.jobs, archive_bytes=(2_000, 50_000), seed=5)
    storage = StorageOptions(
        options.assets, items=(2, 2), item_assets=(2, 3), raster_bytes=(2_000, 50_000), settled=True
    )
    return SimulatedAccount(projects=1, jobs=1, storage=storage)


async def serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with Simulator(create_account(options), SimulatorOptions(latency_s=options.latency)) as simulator:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGUSR1, simulator.requests.clear)
        username, password = simulator.account_credentials
        key = simulator.projects[0]
        expected = (
            [describe_file(file) for file in simulator.expected_files()]
            if options.assets
            else [describe_output(output) for output in simulator.expected_outputs()]
        )
        line = {
            "api_url": simulator.api_url,
            "projects": [{"id": key.id, "api_key": key.api_key}],
            "account": {"username": username, "password": password},
            "expected": expected,
        }
        _print(line)
        await stopped.wait()
        _print(Counter(f"{seen.server} {seen.endpoint}" for seen in simulator.requests))


def _print(document: object) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201 - read by the bench


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.delayed")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--assets", type=int, default=0, help="number of originals of today's API")
    parser.add_argument("--latency", type=float, default=0.1)
    asyncio.run(serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
