"""Processors in runs of the command line: installed, stopped, killed, failing."""

import asyncio
import hashlib
import json
import os
import signal

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.filled_directory import ROOT, FilledDirectory
from support.processor_distributions import install_example, install_gated

ACCOUNT = SimulatedAccount(projects=1, jobs=4, archive_bytes=(500, 5_000))


@pytest.fixture
async def site(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        yield FilledDirectory(tmp_path, simulator)


@pytest.fixture(scope="module")
def gated_site(tmp_path_factory):
    return install_gated(tmp_path_factory.mktemp("gated"))


@pytest.fixture(scope="module")
def example_site(tmp_path_factory):
    return install_example(tmp_path_factory.mktemp("example"))


@pytest.fixture
def gate(site, tmp_path, gated_site):
    """The folder of the gate; the processor ``gated`` is installed."""
    folder = tmp_path / "gate"
    folder.mkdir()
    site.env |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(gated_site)]),
        "GATE": str(folder),
        "BULKDL_PROCESSORS": "gated",
        "BULKDL_PROCESSING_THREADS": "1",
    }
    return folder


def files(site, suffix):
    return sorted(path.relative_to(site.output).as_posix() for path in site.output.rglob(f"*{suffix}"))


def outputs(site, *kinds):
    names = {"archive": ("_output.tar", "_output.zip"), "geojson": ("_output.json",)}
    wanted = [name for kind in kinds for name in names[kind]]
    return sorted(
        path.relative_to(site.output).as_posix()
        for path in site.output.rglob("*_output.*")
        if any(name in path.name for name in wanted) and not path.name.endswith((".sha256", ".gated"))
    )


async def wait_for_file(path, process):
    while not path.exists():
        assert process.returncode is None
        await asyncio.sleep(0.01)  # another process creates the file


async def test_run_with_an_installed_processor_writes_derived_files_once(site, example_site):
    site.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(example_site)])
    result = await site.bulkdl("run", "--processor", "checksums", "--format", "json")
    assert result.code == 0, result
    keys = outputs(site, "archive", "geojson")
    assert len(keys) > 4
    assert files(site, "output*.sha256") == sorted(f"{key}.sha256" for key in keys)
    for key in keys:
        checksum, name = (site.output / f"{key}.sha256").read_text().split()
        assert checksum == hashlib.sha256((site.output / key).read_bytes()).hexdigest()
        assert key.endswith(name)
    listed = (site.output / "checksums-sha256.tsv").read_text().splitlines()
    assert sorted(line.split("\t")[1] for line in listed) == sorted(f"{key}.sha256" for key in keys)
    (derived,) = result.document["derived"]
    assert (derived["processor"], derived["completed"], derived["failed"]) == ("checksums", len(keys), 0)

    again = await site.bulkdl("run", "--processor", "checksums", "--format", "json")
    assert (again.code, again.document["derived"][0]["completed"]) == (0, 0)
    status = await site.bulkdl("status")
    assert f"checksums: {len(keys)} completed; {len(keys) + 1} derived files" in status.out
    verified = await site.bulkdl("verify", "--deep", "--format", "json")
    assert verified.code == 0, verified
    assert verified.document["untracked_total"] == 0


async def test_run_with_settings_of_a_processor_uses_them(site, tmp_path, example_site):
    site.env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(example_site)])
    with (tmp_path / "bulkdl.toml").open("r+") as config:
        text = config.read()
        config.seek(0)
        config.write(f'processors = ["checksums"]\n{text}[processor_settings.checksums]\nalgorithm = "md5"\n')
    assert (await site.bulkdl("run", "-q")).code == 0
    assert files(site, "output*.md5")
    assert (await site.bulkdl("run", "--processor", "checksum")).err.endswith(
        "bulkdl: --processor: unknown processor 'checksum'; installed: checksums, unpack\n"
    )


async def test_run_with_an_unknown_processor_exits_before_it_changes_anything(site):
    result = await site.bulkdl("run", "--processor", "nope")
    assert (result.code, site.output.exists()) == (2, False)
    assert result.err.startswith("bulkdl: --processor: unknown processor 'nope'; ")
    assert result.err.count("\n") == 1


async def test_run_with_a_failing_processor_downloads_everything(site, gate):
    (gate / "open").touch()
    result = await site.bulkdl("run", "--format", "json", FAIL="1")
    assert result.code == 6, result
    document = result.document
    assert (document["outputs"]["failed"], document["failures_total"]) == (0, 0)
    geojson = outputs(site, "geojson")
    assert document["problems_total"] == document["derived"][0]["failed"] == len(geojson)
    assert {problem["detail"] for problem in document["problems"]} == {"not to my taste"}
    assert files(site, ".gated") == sorted(f"{key}.gated" for key in outputs(site, "archive"))
    again = await site.bulkdl("run", "--format", "json")
    assert (again.code, again.document["derived"][0]["completed"]) == (0, len(geojson))


async def test_run_killed_while_it_processes_is_completed_by_the_next_run(site, gate):
    process = await site.start("run", "-q")
    await wait_for_file(gate / "reached", process)
    process.kill()
    await process.communicate()
    assert files(site, ".gated") == []
    left = site.output / ".bulkdl" / "processing" / "left"
    left.mkdir(parents=True, exist_ok=True)
    (gate / "open").touch()
    result = await site.bulkdl("run", "--format", "json")
    assert result.code == 0, result
    assert files(site, ".gated") == sorted(f"{key}.gated" for key in outputs(site, "archive", "geojson"))
    assert not left.exists()


@pytest.mark.parametrize("signals", [1, 2])
async def test_run_interrupted_while_it_processes_ends_and_resumes(site, gate, signals):
    process = await site.start("run", "-q", "--shutdown-timeout", "60s")
    await wait_for_file(gate / "reached", process)
    process.send_signal(signal.SIGINT)
    async for line in process.stderr:
        if b"processing.draining" in line:
            break
    if signals == 1:
        (gate / "open").touch()
    else:
        process.send_signal(signal.SIGINT)
    async with asyncio.timeout(50):
        await process.communicate()
    assert process.returncode == 130
    assert len(files(site, ".gated")) == (1 if signals == 1 else 0)
    (gate / "open").touch()
    assert (await site.bulkdl("run", "-q")).code == 0
    assert files(site, ".gated") == sorted(f"{key}.gated" for key in outputs(site, "archive", "geojson"))


async def test_run_report_contains_the_results_of_the_processors(site, gate):
    (gate / "open").touch()
    assert (await site.bulkdl("run", "-q")).code == 0
    (path,) = (site.output / ".bulkdl" / "runs").iterdir()
    (derived,) = json.loads(path.read_text())["derived"]
    assert derived["files"] == derived["completed"] == len(files(site, ".gated"))
