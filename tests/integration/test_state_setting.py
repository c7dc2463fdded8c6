"""A state directory outside of the output directory, on the same file system and on another one."""

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE

import pytest

from bulkdl.errors import ConfigError
from bulkdl.simulator import SimulatedAccount
from support.library_runs import LibraryEnvironment, Simulator
from support.run_processes import ROOT

ACCOUNT = SimulatedAccount(projects=1, jobs=4, archive_bytes=1_500_000)


@pytest.fixture(params=["one disk", "two disks"])
def state(request, tmp_path):
    if request.param == "one disk":
        return tmp_path / "state"
    return request.getfixturevalue("other_file_system") / "state"


@pytest.fixture
async def here(tmp_path):
    async with Simulator(ACCOUNT) as simulator:
        yield LibraryEnvironment(simulator, tmp_path / "out")


def all_files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_run_with_a_state_directory_leaves_only_outputs_in_the_destination(here, state):
    summary = await here.run(state=state)
    assert summary.exit_code == 0
    assert here.read_files() == here.expected_files()
    assert not (here.output / ".bulkdl").exists()
    assert not [name for name in all_files(here.output) if name.endswith(".tmp")]
    assert {"ledger.sqlite3", "destination", f"runs/{summary.run_id}.json"} <= set(all_files(state))
    assert [name for name in all_files(state / "parts") if not name.endswith(".json")] == []
    again = await here.run(state=state)
    assert (again.exit_code, again.downloaded_bytes) == (0, 0)


@pytest.mark.parametrize("output", ["out", "elsewhere"])
async def test_run_with_the_state_of_another_destination_is_rejected(here, state, tmp_path, output):
    await here.run(state=state)
    if output == "out":  # another spelling of the same directory
        here.output = tmp_path / "link"
        here.output.symlink_to(tmp_path / "out")
        assert (await here.run(state=state)).exit_code == 0
        return
    before = all_files(state)
    here.output = tmp_path / output
    with pytest.raises(ConfigError, match="belongs to the destination"):
        await here.run(state=state)
    assert not here.output.exists()
    assert all_files(state) == before


async def test_run_with_the_default_state_of_another_destination_is_rejected(here, tmp_path):
    await here.run()
    first, here.output = here.output, tmp_path / "elsewhere"
    with pytest.raises(ConfigError, match="belongs to the destination"):
        await here.run(state=first / ".bulkdl")


async def test_run_after_both_directories_are_moved_downloads_nothing(here, tmp_path):
    state = here.output / "intern"
    await here.run(state=state)
    here.output.rename(tmp_path / "moved")
    here.output = tmp_path / "moved"
    summary = await here.run(state=here.output / "intern")
    assert (summary.exit_code, summary.downloaded_bytes) == (0, 0)


async def bulkdl(here, command, state, *options):
    """Return the exit code and stdout of a command."""
    (project,) = here.simulator.projects
    keys = {"UP42_PROJECT_ID": project.id, "UP42_PROJECT_API_KEY": project.api_key}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bulkdl", command, "-o", str(here.output), "--state", str(state), *options),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **keys},
    )
    out, log = await process.communicate()
    assert b"Traceback" not in log
    return process.returncode, out.decode() + log.decode()


async def test_commands_use_the_state_directory(here, state):
    api = ("--api-url", here.simulator.api_url)
    code, _ = await bulkdl(here, "run", state, *api, "--format", "json")
    assert code == 0
    code, text = await bulkdl(here, "plan", state, *api)
    assert (code, "0 outputs to download" in text) == (0, True)
    code, text = await bulkdl(here, "status", state, "--format", "json")
    assert json.loads(text)["containers"] == {"jobs": {"up_to_date": 4}}
    code, text = await bulkdl(here, "verify", state, "--deep")
    assert code == 0, text
    next(here.output.glob("*/*/*/task_output.*")).unlink()
    code, _ = await bulkdl(here, "verify", state, "--repair")
    assert code == 6
    code, _ = await bulkdl(here, "retry", state, *api)
    assert code == 0
    assert here.read_files() == here.expected_files()
    shutil.rmtree(state)
    code, text = await bulkdl(here, "verify", state, "--rebuild")
    assert code == 0, text
    code, text = await bulkdl(here, "verify", state, "--deep")
    assert (code, "untracked" in text) == (0, False)
    code, text = await bulkdl(here, "status", state.with_name("typo"))
    assert (code, "contains no ledger" in text) == (2, True)


async def test_run_to_an_unknown_scheme_names_the_known_schemes(here, state):
    here.output = "nowhere://bucket/prefix"
    code, text = await bulkdl(here, "run", state)
    assert code == 2
    assert text.count("\n") == 1
    assert "'nowhere'; expected a path or one of az, file, gs, s3" in text
    assert not state.exists()
