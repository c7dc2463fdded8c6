"""Run the backfill Job of config/kubernetes as processes against the simulator."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulkdl.selection import find_shard
from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from bulkdl.sources.up42_jobs.models import Kind
from support.indexed_job import IndexedJob, Pod

BASE = Path(__file__).parents[2] / "config" / "kubernetes" / "base" / "backfill"
SHARDS, FEW = 8, 3
MIB = 1024 * 1024

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
]  # a test starts a dozen interpreters, which takes long on a busy machine


@pytest.fixture
def manifest() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((BASE / "job.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture
def small(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the Job with another number of shards, which the manifest contains twice."""
    manifest["spec"]["completions"] = FEW
    (shards,) = [
        entry
        for entry in manifest["spec"]["template"]["spec"]["containers"][0]["env"]
        if entry["name"] == "BULKDL_SHARDS"
    ]
    shards["value"] = str(FEW)
    return manifest


def job_of(manifest: dict[str, Any], simulator: Simulator, folder: Path, **more: str) -> IndexedJob:
    """Create the Job with its Secret as files, the ConfigMap of the repository and an empty volume."""
    for name in ("data", "secret", "logs"):
        (folder / name).mkdir()
    (folder / "secret" / "project-id").write_text(simulator.projects[0].id)
    (folder / "secret" / "api-key").write_text(simulator.projects[0].api_key + "\n")
    paths = {"/data": folder / "data", "/etc/bulkdl": BASE, "/run/secrets/up42": folder / "secret"}
    extra = {"BULKDL_API_URL": simulator.api_url, "BULKDL_LISTEN": "127.0.0.1:0", **more}
    return IndexedJob(manifest, paths, folder / "logs", lambda _index, _attempt: extra)


def logs_of(job: IndexedJob) -> str:
    return "\n".join(f"{path.name}\n{path.read_text()[-2000:]}" for path in sorted(job.logs.iterdir()))


def outputs(folder: Path) -> dict[Path, Path]:
    """
    Return the files of all shards by their path in the shard, without documents and state.

    Raises:
        AssertionError: Two shards have the same file.
    """
    found: dict[Path, Path] = {}
    for path in folder.glob("shard-*/[!.]*/**/*"):
        if path.is_file() and path.name not in ("job.json", "job_tasks.json", "task_quicklook.json"):
            place = path.relative_to(folder).relative_to(path.relative_to(folder).parts[0])
            assert place not in found, f"{path} is {found[place]} once more"
            found[place] = path
    return found


def digests(bodies: Iterable[bytes]) -> Counter[str]:
    return Counter(sha256(body).hexdigest() for body in bodies)


def requested(simulator: Simulator) -> Counter[str]:
    """Count the requests for each stored object."""
    return Counter(seen.path for seen in simulator.requests if seen.server == "storage")


async def test_shards_that_are_killed_evicted_and_stopped_download_every_output_once(manifest, tmp_path):
    """Every shard stalls in the middle of an archive, so that none finishes before it is interrupted."""
    account = SimulatedAccount(seed=3, projects=1, jobs=16, archive_bytes=(MIB, 2 * MIB))
    async with Simulator(account) as simulator:
        held = large_jobs_of_different_shards(simulator)
        upsets = dict(zip(held, ("kill", "evict", "terminate"), strict=False))
        hold = {"fault": "stall", "server": "storage", "at_fraction": 0.5, "limit": 1}
        simulator.faults = Faults.from_rules(*({**hold, "path": f"*/{held[shard]}/*"} for shard in upsets))

        async def disturb(pod: Pod) -> None:
            if pod.attempt == 1 and pod.index in upsets:
                await in_the_middle(simulator, held[pod.index])
                await UPSET[upsets[pod.index]](pod)

        job = job_of(
            manifest, simulator, tmp_path, BULKDL_ARCHIVE_CONCURRENCY="1", BULKDL_SHUTDOWN_TIMEOUT="0.1s"
        )
        job.disturb = disturb
        assert await job.run() == "Complete", logs_of(job)
        expected = digests(output.read() for output in simulator.expected_outputs())
        repeats = {path: count - 1 for path, count in requested(simulator).items() if count > 1}
    ends = {(137, "Count"): 1, (143, "Ignore"): 1, (143, "Count"): 1}
    assert job.codes() == {(0, "Complete"): SHARDS, **ends}
    shards = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert shards == [f"shard-{index}" for index in range(SHARDS)]
    assert digests(path.read_bytes() for path in outputs(tmp_path / "data").values()) == expected
    # Only the interrupted downloads are requested once more, from the last byte.
    assert sorted(repeats.values()) == [1] * len(upsets)
    assert all(any(job_id in path for job_id in held.values()) for path in repeats)


async def killed(pod: Pod) -> None:
    pod.process.kill()


UPSET = {"kill": killed, "evict": Pod.evict, "terminate": Pod.terminate}


def large_jobs_of_different_shards(simulator: Simulator) -> dict[int, str]:
    """Return a job per shard with an archive that is larger than a socket buffer."""
    large = [
        output
        for output in simulator.expected_outputs()
        if output.kind == Kind.ARCHIVE and output.size_bytes >= MIB
    ]
    return {find_shard(output.job_id, SHARDS): output.job_id for output in large}


async def in_the_middle(simulator: Simulator, job_id: str) -> None:
    def held() -> bool:
        return any(
            "stall" in seen.faults and job_id in seen.path and seen.sent_bytes for seen in simulator.requests
        )

    while not held():  # noqa: ASYNC110 - the simulator's log has no event
        await asyncio.sleep(0.02)


async def test_shards_without_interruption_request_each_object_once(small, tmp_path):
    account = SimulatedAccount(seed=4, projects=1, jobs=12, archive_bytes=(2_000, 20_000))
    async with Simulator(account) as simulator:
        job = job_of(small, simulator, tmp_path)
        assert await job.run() == "Complete", logs_of(job)
        assert job.codes() == {(0, "Complete"): FEW}
        assert set(requested(simulator).values()) == {1}
        expected = digests(output.read() for output in simulator.expected_outputs())
    assert digests(path.read_bytes() for path in outputs(tmp_path / "data").values()) == expected


async def test_job_with_a_rejected_key_fails_without_retries(manifest, tmp_path):
    async with Simulator(SimulatedAccount(seed=5, projects=1, jobs=4)) as simulator:
        job = job_of(manifest, simulator, tmp_path)
        (tmp_path / "secret" / "api-key").write_text("wrong")
        assert await job.run() == "PodFailurePolicy", logs_of(job)
    assert job.codes()[7, "FailJob"] >= 1
    assert len(job.ends) <= manifest["spec"]["parallelism"]
    assert job.succeeded == set()


async def test_job_with_a_failing_shard_fails_only_that_index(small, tmp_path):
    async def disturb(pod: Pod) -> None:
        if pod.index == 1:
            pod.process.kill()

    async with Simulator(SimulatedAccount(seed=6, projects=1, jobs=12, archive_bytes=2_000)) as simulator:
        job = job_of(small, simulator, tmp_path)
        job.disturb = disturb
        assert await job.run() == "FailedIndexes", logs_of(job)
    assert job.failed == {1}
    assert job.succeeded == set(range(FEW)) - {1}
    assert job.codes() == {
        (0, "Complete"): FEW - 1,
        (137, "Count"): small["spec"]["backoffLimitPerIndex"] + 1,
    }


async def test_job_retries_temporary_failures_only(small, tmp_path):
    account = SimulatedAccount(seed=6, projects=1, jobs=12, archive_bytes=2_000)
    later, never = two_jobs_of_different_shards(account)
    faults = Faults.from_rules(
        {"fault": "status", "status": 503, "path": f"*/jobs/{later}/downloads/results", "limit": 1},
        {"fault": "status", "status": 451, "path": f"*/jobs/{never}/outputs/data-json"},
    )
    async with Simulator(account, faults=faults) as simulator:
        job = job_of(small, simulator, tmp_path, BULKDL_RETRIES="0")
        assert await job.run() == "FailedIndexes", logs_of(job)
    codes = job.codes()
    assert codes[5, "Count"] >= 1  # a busy machine may add one
    assert codes[3, "FailIndex"] == 1
    assert job.failed == {find_shard(never, FEW)}
    assert job.succeeded == set(range(FEW)) - job.failed


def two_jobs_of_different_shards(account: SimulatedAccount) -> tuple[str, str]:
    ids = [job.id for job in account.iter_jobs() if job.status == "SUCCEEDED"]
    return ids[0], next(other for other in ids if find_shard(other, FEW) != find_shard(ids[0], FEW))
