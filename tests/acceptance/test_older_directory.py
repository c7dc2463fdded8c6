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

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "directory-version-1.tar.gz"
ACCOUNT = SimulatedAccount(seed=11, projects=2, jobs=8, archive_bytes=(2000, 6000))
OUTPUTS, FAILED = 53, 2


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below *folder*, by relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def output_digests(folder: Path) -> dict[str, str]:
    return {key: value for key, value in digests(folder).items() if not key.startswith(".bulkdl/")}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "out"


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
