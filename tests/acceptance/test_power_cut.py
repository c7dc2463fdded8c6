"""
A power cut at any point of a run, and the next run that completes the work.

A run is recorded. Then all states are examined that a power cut can leave (``support.power_cut``): prefixes
of the file operations without some of the operations that were not durable. A sample of the states is written
to disk, and a normal run completes each of them.
"""

import hashlib
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bulkdl.graph.downloader import Downloader
from bulkdl.settings import AccountCredentials, CredentialSet, Settings
from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from bulkdl.simulator.lazy_bytes import read_all
from bulkdl.simulator.v2.deliveries import StorageOptions
from support.fault_runs import FAST_SETTINGS, SEGMENTED_SETTINGS
from support.operation_recorder import OperationRecorder
from support.power_cut import DiskState, OperationLog

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STATE = "outputs/.bulkdl/"
LEDGER = f"{STATE}ledger.sqlite3"
DOCUMENTS = {
    *("job.json", "job_tasks.json", "task_quicklook.json"),
    *("asset.json", "collection.json", "item.json", "delivery.json"),
}
SEED = 20
MAX_RERUNS = 40
ENDED_PID = 1 << 22  # larger than any process ID
JOBS = SimulatedAccount(projects=1, jobs=1, archive_bytes=2_500_000)
DELIVERIES = SimulatedAccount(storage=StorageOptions(assets=2, raster_bytes=(2_500_000, 2_600_000)))
WITHOUT_CHECKSUMS = {"fault": "without", "headers": ["x-goog-hash"], "server": "storage", "per": "all"}


@dataclass
class Account:
    """A simulated account and the runs that download it."""

    simulator: Simulator
    source: str
    settings: Mapping[str, Any]
    digests: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        jobs, deliveries = self.simulator.expected_outputs(), self.simulator.expected_files()
        bodies = [expected.body for expected in (jobs if self.source == "jobs" else deliveries)]
        self.digests = {hashlib.sha256(read_all(body)).digest() for body in bodies}

    async def run(self, output: Path) -> int:
        options = {**FAST_SETTINGS, **self.settings, "source": self.source, "output": output}
        settings = Settings(api_url=self.simulator.api_url, **options)
        async with Downloader(settings, credentials=self._credentials()) as downloader:
            return int((await downloader.run()).exit_code)

    def _credentials(self) -> CredentialSet:
        if self.source == "storage":
            username, password = self.simulator.account_credentials
            return CredentialSet(accounts=(AccountCredentials("account", username, SecretStr(password)),))
        keys = {project.id: SecretStr(project.api_key) for project in self.simulator.projects}
        return CredentialSet(by_project=keys, project_ids=tuple(keys))


@asynccontextmanager
async def account(source: str, *rules: Mapping[str, Any], **settings: Any) -> AsyncIterator[Account]:
    async with Simulator(JOBS if source == "jobs" else DELIVERIES) as simulator:
        simulator.faults = Faults.from_rules(*rules)
        yield Account(simulator, source, settings)


def read_digests(base: Path) -> dict[str, bytes]:
    """Return the digest of each file below *base* except the ledger."""
    return {
        name: hashlib.sha256(path.read_bytes()).digest()
        for path in base.rglob("*")
        if path.is_file() and (name := path.relative_to(base).as_posix()) != LEDGER
    }


@dataclass
class PowerCuts:
    """The recorded run, and the files that it left."""

    account: Account
    log: OperationLog
    files: dict[str, bytes]
    folder: Path

    @classmethod
    async def record(cls, account: Account, folder: Path) -> "PowerCuts":
        base = folder / "recorded"
        base.mkdir()
        recorder = OperationRecorder(base)
        with pytest.MonkeyPatch.context() as patch:
            recorder.install(patch)
            assert await account.run(base / "outputs") == 0
        cuts = cls(account, recorder.log, read_digests(base), folder / "cut")
        assert cuts.digests_of(cuts.log.last_state()) == cuts.files  # the recording is complete
        assert cuts.find_wrong_files(cuts.files) == []
        return cuts

    def find_wrong_files(self, digests: Mapping[str, bytes]) -> list[str]:
        """Return the files with a final name that are not complete outputs."""
        return [
            name
            for name, digest in digests.items()
            if not name.startswith(STATE) and name.rpartition("/")[2] not in DOCUMENTS
            if digest not in self.account.digests
        ]

    def digests_of(self, state: DiskState) -> dict[str, bytes]:
        return {name: self.log.digest(file) for name, file in state.files.items() if name != LEDGER}

    def find_false_records(self, state: DiskState) -> list[str]:
        """Return the files that the ledger of *state* records as completed, and that are missing or wrong."""
        content = self.log.read(state.files[LEDGER]) if LEDGER in state.files else b""
        if not content:
            return []
        connection = sqlite3.connect(":memory:")
        connection.deserialize(content[:18] + b"\1\1" + content[20:])  # WAL is not possible in memory
        try:
            has_table = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'outputs'").fetchone()
            query = "SELECT key FROM outputs WHERE state = 'completed'"
            keys = [row[0] for row in connection.execute(query)] if has_table else []
        finally:
            connection.close()
        names = {f"outputs/{key}" for key in keys}
        recorded = {name: self.log.digest(state.files[name]) for name in names & set(state.files)}
        return [*(names - set(recorded)), *self.find_wrong_files(recorded)]

    async def recover(self, state: DiskState) -> None:
        """Write *state* to disk and let a normal run complete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.log.write(state, self.folder)
        ledger = self.folder / LEDGER
        if ledger.exists():
            end_lease(ledger)
        context = self.log.explain(state)
        assert await self.account.run(self.folder / "outputs") == 0, context
        recovered = read_digests(self.folder)
        assert self.find_wrong_files(recovered) == [], context
        assert {name for name in self.files if not name.startswith(STATE)} <= set(recovered), context
        with sqlite3.connect(ledger) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        connection.close()

    async def recover_all(self, states: list[DiskState]) -> None:
        """Recover a sample of *states*."""
        chooser = random.Random(SEED)
        for state in chooser.sample(states, min(MAX_RERUNS, len(states))):
            await self.recover(state)


def end_lease(ledger: Path) -> None:
    """Let the process that has the lease be another one than this test: a power cut has ended it."""
    connection = sqlite3.connect(ledger)
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'lease'").fetchone():
        connection.execute("UPDATE lease SET pid = ?", (ENDED_PID,))
        connection.commit()
    connection.close()


def states_with(cuts: PowerCuts, suffix: str) -> list[DiskState]:
    """Return the states that have a file with *suffix*."""
    return [state for state in cuts.log.states(SEED) if any(name.endswith(suffix) for name in state.files)]


@pytest.mark.parametrize("source", ["jobs", "storage"])
async def test_power_cut_with_durability_full_leaves_only_right_files(tmp_path: Path, source: str) -> None:
    async with account(source) as downloads:
        cuts = await PowerCuts.record(downloads, tmp_path)
        states = list(cuts.log.states(SEED))
        for state in states:
            assert cuts.find_wrong_files(cuts.digests_of(state)) == [], cuts.log.explain(state)
            assert cuts.find_false_records(state) == [], cuts.log.explain(state)
        await cuts.recover_all(states)


async def test_power_cut_after_a_completed_run_loses_no_output(tmp_path: Path) -> None:
    async with account("jobs") as downloads:
        cuts = await PowerCuts.record(downloads, tmp_path)
        for state in cuts.log.last_states(SEED):
            outputs = {name for name in cuts.files if not name.startswith(STATE)}
            assert outputs <= set(state.files), cuts.log.explain(state)


async def test_power_cut_with_durability_batch_is_repaired_by_the_next_run(tmp_path: Path) -> None:
    async with account("jobs", durability="batch") as downloads:
        cuts = await PowerCuts.record(downloads, tmp_path)
        states = list(cuts.log.states(SEED))
        for state in states:
            assert cuts.find_false_records(state) == [], cuts.log.explain(state)
        wrong = [state for state in states if cuts.find_wrong_files(cuts.digests_of(state))]
        assert wrong
        await cuts.recover_all(wrong)


@pytest.mark.parametrize("source", ["jobs", "storage"])
async def test_power_cut_without_checksums_of_the_server_is_repaired(tmp_path: Path, source: str) -> None:
    async with account(source, WITHOUT_CHECKSUMS) as downloads:
        cuts = await PowerCuts.record(downloads, tmp_path)
        await cuts.recover_all(states_with(cuts, ".part"))


async def test_power_cut_of_a_segmented_download_is_repaired(tmp_path: Path) -> None:
    async with account("jobs", WITHOUT_CHECKSUMS, **SEGMENTED_SETTINGS) as downloads:
        cuts = await PowerCuts.record(downloads, tmp_path)
        await cuts.recover_all(states_with(cuts, ".map"))
