"""An output directory and ledger that an earlier revision wrote (tests/fixtures) stay usable."""

import asyncio
import hashlib
import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.simulator.lazy_bytes import read_all
from bulkdl.simulator.objects import Bucket, object_path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
ACCOUNT = SimulatedAccount(seed=11, projects=2, jobs=8, archive_bytes=(2000, 6000))
OUTPUTS, FAILED = 53, 2
# A directory with outputs and jobs in every state that an interrupted backfill leaves.
STATES_ACCOUNT = SimulatedAccount(seed=14, projects=2, jobs=30, archive_bytes=(2000, 9000))


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below *folder*, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def output_digests(folder: Path) -> dict[str, str]:
    return {key: value for key, value in digests(folder).items() if not key.startswith(".bulkdl/")}


def unpack(name: str, folder: Path) -> Path:
    with tarfile.open(FIXTURES / name) as archive:
        archive.extractall(folder, filter="data")
    return folder / "out"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return unpack("directory-version-1.tar.gz", tmp_path)


@pytest.fixture
def states_directory(tmp_path: Path) -> Path:
    return unpack("directory-version-1-states.tar.gz", tmp_path)


async def fill_partial_file(directory: Path) -> tuple[int, int]:
    """
    Replace the content of the only partial file, because the simulator of that revision had other archives.

    Returns:
        The size of the archive, and the size of the partial file.
    """
    (sidecar,) = (directory / ".bulkdl" / "parts").glob("*.json")
    record = json.loads(sidecar.read_text())
    _, job_id, task_id, _ = record["output"].split("/")
    job = next(job for job in STATES_ACCOUNT.iter_jobs() if job.id == job_id)
    task = next(task for task in job.tasks if task.id == task_id)
    archive = await Bucket(STATES_ACCOUNT).get(object_path(job, task))
    assert archive is not None
    part = sidecar.with_name(record["data"])
    size_bytes = part.stat().st_size
    part.write_bytes(read_all(archive.body)[:size_bytes])
    record["validator"]["etag"] = archive.checksums.etag
    record["validator"]["generation"] = str(archive.generation)
    record["total_bytes"] = archive.body.size
    for digest in record["digests"]:
        digest["value"] = getattr(archive.checksums, digest["algorithm"])
    sidecar.write_text(json.dumps(record))
    return archive.body.size, size_bytes


async def bulkdl(directory: Path, *args: str, simulator: Simulator | None = None) -> tuple[int, str]:
    """Run the command line on *directory* and return its exit code and stdout."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
    env["PYTHONPATH"] = str(ROOT)
    if simulator is not None:
        config = directory.parent / "bulkdl.toml"
        tables = []
        for number, project in enumerate(simulator.projects):
            env[f"KEY_{number}"] = project.api_key
            tables.append(f'[[projects]]\nid = "{project.id}"\napi_key_env = "KEY_{number}"\n')
        config.write_text("\n".join(tables))
        env |= {"BULKDL_CONFIG": str(config), "BULKDL_API_URL": simulator.api_url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bulkdl", *args, "-o", str(directory)),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert b"Traceback" not in err, err.decode()
    return process.returncode or 0, out.decode()


async def test_status_of_an_older_directory_reads_it_without_a_write(directory: Path) -> None:
    before = digests(directory)
    code, out = await bulkdl(directory, "status", "--format", "json")
    status = json.loads(out)
    assert code == 0
    assert sum(row["outputs"] for row in status["counts"]) == OUTPUTS
    assert len(status["failures"]) == FAILED
    assert digests(directory) == before


async def test_run_on_an_older_directory_downloads_only_what_had_failed(directory: Path) -> None:
    before = output_digests(directory)
    async with Simulator(ACCOUNT) as simulator:
        code, out = await bulkdl(directory, "run", "--format", "json", simulator=simulator)
        endpoints = {seen.endpoint for seen in simulator.requests}
    assert code == 0, out
    summary = json.loads(out)
    completed = [row for row in summary["counts"] if row["outcome"] == "completed"]
    assert sum(row["outputs"] for row in completed) == FAILED
    after = output_digests(directory)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + FAILED
    assert endpoints == {"token", "jobs", "geojson"}
    assert not list((directory / ".bulkdl").glob("ledger.sqlite3.version-*"))


async def test_verify_deep_of_an_older_directory_finds_no_fault(directory: Path) -> None:
    code, out = await bulkdl(directory, "verify", "--deep", "--format", "json")
    assert code == 0, out
    assert json.loads(out)["findings"] == []


async def test_retry_on_an_older_directory_downloads_the_failed_outputs(directory: Path) -> None:
    async with Simulator(ACCOUNT) as simulator:
        code, out = await bulkdl(directory, "retry", "--format", "json", simulator=simulator)
    assert code == 0, out
    status_code, status = await bulkdl(directory, "status", "--format", "json")
    assert status_code == 0
    assert json.loads(status)["failures"] == []


def counts_by_state(rows: list[dict[str, object]], state: str) -> dict[tuple[object, object, object], object]:
    return {(row["kind"], row[state], row["reason"]): row["outputs"] for row in rows}


async def test_status_of_an_older_directory_shows_each_state_with_its_current_name(
    states_directory: Path,
) -> None:
    before = digests(states_directory)
    code, out = await bulkdl(states_directory, "status", "--format", "json")
    status = json.loads(out)
    assert code == 0
    assert counts_by_state(status["counts"], "state") == {
        ("archive", "completed", "downloaded"): 34,
        ("archive", "completed", "linked"): 14,
        ("archive", "failed", "server_error"): 2,
        ("archive", "skipped", "not_available"): 4,
        ("geojson", "completed", "downloaded"): 51,
        ("geojson", "failed", "rejected"): 2,
        ("geojson", "planned", None): 1,
        ("quicklook", "completed", "downloaded"): 29,
        ("quicklook", "failed", "rejected"): 1,
    }
    assert status["containers"]["jobs"]["unfinished"] == 6
    assert digests(states_directory) == before


async def test_run_on_an_older_directory_continues_every_state(states_directory: Path) -> None:
    async with Simulator(STATES_ACCOUNT) as simulator:
        size_bytes, partial_bytes = await fill_partial_file(states_directory)
        code, out = await bulkdl(states_directory, "run", "--format", "json", simulator=simulator)
        expected = [output for output in simulator.expected_outputs() if output.kind == "quicklook"]
    assert code == 0, out
    summary = json.loads(out)
    counts = counts_by_state(summary["counts"], "outcome")
    new_quicklooks = len(expected) - 29
    assert new_quicklooks > 0
    # The archives of the job and its task are one object. The simulator has another port than in the recorded
    # URL, so the run downloads the second archive instead of linking it.
    assert counts["archive", "completed", "downloaded"] == 2
    assert counts["geojson", "completed", "downloaded"] == 3
    assert counts["quicklook", "completed", "downloaded"] == new_quicklooks
    assert counts["archive", "skipped", "not_available"] == 4
    archive_bytes = sum(row["downloaded_bytes"] for row in summary["counts"] if row["kind"] == "archive")
    assert archive_bytes == 2 * size_bytes - partial_bytes
    code, out = await bulkdl(states_directory, "verify", "--deep", "--format", "json")
    assert (code, json.loads(out)["findings"]) == (0, [])


async def test_retry_on_an_older_directory_downloads_failed_and_rejected_outputs(
    states_directory: Path,
) -> None:
    async with Simulator(STATES_ACCOUNT) as simulator:
        code, out = await bulkdl(states_directory, "retry", "--format", "json", simulator=simulator)
    assert code == 0, out
    _, out = await bulkdl(states_directory, "status", "--format", "json")
    states = {row["state"] for row in json.loads(out)["counts"]}
    assert states == {"completed", "skipped"}
