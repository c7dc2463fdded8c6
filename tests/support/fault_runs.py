"""
Run the downloader against a small account with a fault script.

The delays between attempts are milliseconds. Tests check the requests that the simulator received and the
bytes that it sent.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import SecretStr

from bulkdl.graph.downloader import Downloader
from bulkdl.models import Outcome, Reason, Result
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings
from bulkdl.settings.levels import Level
from bulkdl.simulator import (
    ExpectedOutput,
    Faults,
    RequestRecord,
    SimulatedAccount,
    Simulator,
    SimulatorOptions,
)
from bulkdl.simulator.faults import Rule
from bulkdl.simulator.lazy_bytes import Blob, read_all
from bulkdl.simulator.messages import ReceivedRequest
from bulkdl.sources.up42_jobs.filters import JobFilters
from bulkdl.sources.up42_jobs.models import Kind

ARCHIVE_BYTES = 3_000_000
# One job with two tasks: two objects, three archives (one is shared), quicklooks and GeoJSON files.
ACCOUNT = SimulatedAccount(projects=1, jobs=1, archive_bytes=ARCHIVE_BYTES)
FAST_SETTINGS: Mapping[str, Any] = {
    "retry_base_delay": 0.001,
    "retry_max_delay": 0.002,
    "retry_after_max": 0.01,
    "rate": 0,
    "archive_concurrency": 2,
}

# Download each archive over several connections into one partial file.
SEGMENTED_SETTINGS: Mapping[str, Any] = {
    "connections": 4,
    "segment_min_size": 1 << 20,
    "segment_if_slower_than": 0,
    "archive_concurrency": 8,
}

_digests: WeakKeyDictionary[Blob, bytes] = WeakKeyDictionary()


class RecordingFaults(Faults):
    """Faults that also record the time of each request."""

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        super().__init__(rules, seed)
        self.calls: list[tuple[float, ReceivedRequest, tuple[str, ...]]] = []

    def select_rules(self, call: ReceivedRequest) -> list[Rule]:
        meeting = super().select_rules(call)
        self.calls.append((time.monotonic(), call, tuple(rule.kind.name for rule in meeting)))
        return meeting


@dataclass
class RunRecord:
    """A finished run with the requests that the simulator received."""

    summary: Summary
    results: list[Result]
    requests: list[RequestRecord]
    faults: RecordingFaults
    root: Path

    @property
    def exit_code(self) -> int:
        return int(self.summary.exit_code)

    def outcome_counts(self, kind: Kind | None = None) -> Counter[tuple[Outcome, Reason]]:
        return Counter(
            (result.outcome, result.reason) for result in self.results if kind in (None, result.output.kind)
        )

    def failure_reasons(self) -> set[Reason]:
        return {result.reason for result in self.results if result.outcome is Outcome.FAILED}

    def requests_to(self, *endpoints: str) -> list[RequestRecord]:
        return [request for request in self.requests if request.endpoint in endpoints]

    @property
    def sent_bytes(self) -> int:
        """Return the number of archive bytes sent by the storage."""
        return sum(
            request.sent_bytes for request in self.requests_to("object") if request.status in (200, 206)
        )

    def requests_by_object(self) -> list[list[RequestRecord]]:
        """Return the storage requests, grouped by object."""
        by_path: dict[str, list[RequestRecord]] = {}
        for request in self.requests_to("object"):
            by_path.setdefault(request.path, []).append(request)
        return list(by_path.values())

    def requested_offsets(self) -> list[list[int]]:
        """Return the requested start offsets of each object."""
        return [[requested_offset(request) for request in requests] for requests in self.requests_by_object()]

    @property
    def downloaded_bytes(self) -> int:
        return sum(result.downloaded_bytes for result in self.results if result.output.kind == Kind.ARCHIVE)


def requested_offset(seen: RequestRecord) -> int:
    return int(seen.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


@dataclass
class RunEnvironment:
    """A simulator, an output directory, and runs of the library."""

    simulator: Simulator
    root: Path
    settings: dict[str, Any] = field(default_factory=dict)
    bodies: dict[str, set[bytes]] = field(default_factory=dict)

    async def run(
        self, *rules: Mapping[str, Any], seed: int = 0, level: Level | None = None, **settings: Any
    ) -> RunRecord:
        simulator = self.simulator
        simulator.faults = faults = RecordingFaults.from_rules(*rules, seed=seed)
        before = len(simulator.requests)
        selection = Selection(filters=JobFilters(levels=frozenset({level} if level else Level)))
        async with self.downloader(**settings) as downloader, downloader.stream(selection) as stream:
            results = [result async for result in stream]
        assert downloader.summary is not None
        return RunRecord(downloader.summary, results, list(simulator.requests)[before:], faults, self.root)

    def downloader(self, **settings: Any) -> Downloader:
        return Downloader(self._settings(settings), credentials=self.credentials())

    def _settings(self, more: Mapping[str, Any]) -> Settings:
        chosen = {**FAST_SETTINGS, **self.settings, **more}
        return Settings(api_url=self.simulator.api_url, output=self.root, **chosen)

    def credentials(self) -> CredentialSet:
        keys = {project.id: SecretStr(project.api_key) for project in self.simulator.projects}
        return CredentialSet(by_project=keys, project_ids=tuple(keys))

    @property
    def needed_bytes(self) -> int:
        """Return the number of bytes of all archives, counting each object once."""
        sizes = {
            (output.job_id, compute_digest(output)): output.size_bytes
            for output in self.simulator.expected_outputs()
            if output.kind == Kind.ARCHIVE
        }
        return sum(sizes.values())

    def find_wrong_files(self) -> list[str]:
        """Return the final files that differ from the expected outputs."""
        return find_wrong_files(self.root, self.bodies or expected_digests(self.simulator))

    def remember_bodies(self) -> None:
        """Compute the expected digests once. Use it only if no object is replaced."""
        self.bodies = expected_digests(self.simulator)

    def find_missing_outputs(self) -> list[str]:
        """Return the expected outputs without a file."""
        there = files_by_output(self.root)
        return [
            f"{output.kind} {output.name} of {output.task_id or output.job_id}"
            for output in self.simulator.expected_outputs()
            if identity(output) not in there
        ]

    def has_complete_output(self) -> bool:
        assert self.find_wrong_files() == []
        assert self.find_missing_outputs() == []
        return True


def identity(output: ExpectedOutput) -> tuple[str, str, str, str]:
    return output.job_id, output.task_id or "", output.kind.value, output.name


def files_by_output(root: Path) -> dict[tuple[str, str, str, str], Path]:
    """Return the existing file of each output that the ledger records as completed."""
    ledger = root / ".bulkdl" / "ledger.sqlite3"
    if not ledger.exists():
        return {}
    connection = sqlite3.connect(ledger)
    try:
        rows = connection.execute(
            "SELECT container_id, parent, kind, outputs.name, key FROM outputs"
            " JOIN containers ON containers.id = outputs.container WHERE key IS NOT NULL"
        ).fetchall()
    except sqlite3.OperationalError as error:
        assert "no such table: outputs" in str(error)  # noqa: PT017 - the run was killed before it wrote the schema
        rows = []
    finally:
        connection.close()
    found = {tuple(row[:4]): root / row[4] for row in rows}
    return {key: path for key, path in found.items() if path.is_file()}


def expected_digests(simulator: Simulator) -> dict[str, set[bytes]]:
    """Return the digests of all expected outputs, grouped by job or task."""
    bodies: dict[str, set[bytes]] = {}
    for output in simulator.expected_outputs():
        bodies.setdefault(output.task_id or output.job_id, set()).add(compute_digest(output))
    return bodies


def compute_digest(output: ExpectedOutput) -> bytes:
    """
    Return the digest of the content of *output*.

    The digest is kept with the body, which is the same object in all tests until a fault replaces it.
    """
    body = output.body
    if body not in _digests:
        _digests[body] = sha256(read_all(body)).digest()
    return _digests[body]


def find_wrong_files(root: Path, bodies: Mapping[str, set[bytes]]) -> list[str]:
    """
    Return the files below *root* that do not equal an output of their directory.

    The ledger is not used, so that files without a record are checked as well.
    """
    documents = {"job.json", "job_tasks.json", "task_quicklook.json"}
    wrong = []
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if not path.is_file() or inside.parts[0] == ".bulkdl" or path.name in documents:
            continue
        owner = path.parent.parent.name if path.parent.name == "quicklooks" else path.parent.name
        if sha256(path.read_bytes()).digest() not in bodies.get(owner, set()):
            wrong.append(str(inside))
    return wrong


@asynccontextmanager
async def run_environment(
    root: Path,
    account: SimulatedAccount = ACCOUNT,
    *,
    simulator_options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[RunEnvironment]:
    async with Simulator(account, SimulatorOptions(**(simulator_options or {}))) as simulator:
        yield RunEnvironment(simulator, root, settings)
