"""Closed, full and narrow output streams: the exit code stays that of the result, and no traceback."""

import asyncio
import os
import shlex
import sys
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.filled_directory import FilledDirectory, ProcessResult

FAILURES_AS_CSV = "status --failures --format csv"
COMMANDS = (
    *("run", "run --format json", "plan", "status", FAILURES_AS_CSV, "verify", "config", "--help"),
    "--version",
)
NOISE = ("Traceback", "this is a bug", "Exception ignored", "Error in sys")


@pytest.fixture
async def site(tmp_path):
    async with Simulator(SimulatedAccount(projects=1, jobs=2, archive_bytes=2_000)) as simulator:
        site = FilledDirectory(tmp_path, simulator)
        assert (await site.bulkdl("run")).code == 0
        yield site


async def shell(site: FilledDirectory, command: str, redirect: str, **env: str | None) -> ProcessResult:
    """Run *command* with a redirection of the shell, and return its own exit code, not that of the pipe."""
    words = shlex.join([sys.executable, "-W", "error", "-m", "bulkdl"])
    variables = {**site.env, **env}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{words} {command} {redirect}; exit ${{PIPESTATUS[0]}}"),
        cwd=site.folder,
        env={key: value for key, value in variables.items() if value is not None},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return ProcessResult(process.returncode, out.decode(), err.decode())


def has_no_traceback(done: ProcessResult) -> bool:
    return not any(word in done.err + done.out for word in NOISE)


@pytest.mark.parametrize(
    ("command", "redirect"),
    [
        ("run", "> /dev/full"),
        ("--help", ">&-"),
        *(
            pytest.param(command, "> /dev/full", marks=pytest.mark.slow)
            for command in COMMANDS
            if command != "run"
        ),
        *(pytest.param(command, ">&-", marks=pytest.mark.slow) for command in ("run", FAILURES_AS_CSV)),
    ],
)
async def test_stdout_closed_or_full_keeps_the_exit_code(site, command, redirect):
    done = await shell(site, command, redirect)
    assert done.code == 0, done
    assert has_no_traceback(done), done
    assert "cannot be written to stdout" in done.err


@pytest.mark.slow
async def test_stdout_full_does_not_hide_a_failure(site):
    site.file("**/job_output.json").unlink()
    done = await shell(site, "verify", "> /dev/full")
    assert done.code == 6, done
    assert has_no_traceback(done)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", FAILURES_AS_CSV, "--help"])
async def test_stdout_into_a_pipe_that_is_closed_keeps_the_exit_code(site, command):
    done = await shell(site, command, "| true")
    assert done.code == 0, done
    assert has_no_traceback(done), done


@pytest.mark.parametrize(
    ("command", "redirect"),
    [
        ("verify --no-such-option", "2> /dev/full"),
        *(
            pytest.param(command, redirect, marks=pytest.mark.slow)
            for command in ("run -v", "verify --no-such-option")
            for redirect in ("2>&-", "2> /dev/full", "<&- >&- 2>&-")
            if (command, redirect) != ("verify --no-such-option", "2> /dev/full")
        ),
    ],
)
async def test_stderr_closed_or_full_keeps_the_exit_code(site, command, redirect):
    done = await shell(site, command, redirect)
    assert done.code == (2 if "no-such" in command else 0), done
    assert has_no_traceback(done), done


@pytest.mark.slow
async def test_run_with_closed_descriptors_does_not_reuse_them_for_files(site, tmp_path):
    """Otherwise a partial file or the ledger gets the number 1 or 2 and receives the messages."""
    for path in site.output.rglob("*.tar*"):
        path.unlink()
    fresh = tmp_path / "fresh"
    done = await shell(site, f"run -o {fresh} -vv --log-format console", "<&- >&- 2>&-")
    assert done.code == 0
    verified = await site.bulkdl("verify", "--deep", "-o", str(fresh))
    assert verified.code == 0, verified


@pytest.mark.slow
@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"TERM": "dumb", "COLUMNS": "20"},
        {"HOME": None},
        {"HOME": "/nonexistent"},
    ],
    ids=["LC_ALL=C", "dumb terminal", "no HOME", "HOME not found"],
)
async def test_commands_in_a_minimal_environment_return_0(site, env):
    for command in ("run --format json --log-format json -v", "status", "config"):
        done = await shell(site, command, "", **env)
        assert done.code == 0, done
        assert has_no_traceback(done), done


@pytest.mark.slow
async def test_run_with_umask_077_creates_private_files_and_runs_again(site, tmp_path):
    fresh = tmp_path / "fresh"
    for _ in range(2):
        done = await shell(site, f"run -o {fresh}", "", BASH_ENV=str(_umask(tmp_path)))
        assert done.code == 0, done
    modes = {path.stat().st_mode & 0o077 for path in fresh.rglob("*")}
    assert modes == {0}


def _umask(folder: Path) -> Path:
    path = folder / "umask.sh"
    path.write_text("umask 077\n")
    return path


async def test_run_on_a_terminal_of_20_columns_returns_0(site, tmp_path):
    """A real terminal, so that tables and progress bars are drawn."""
    command = shlex.join([sys.executable, "-m", "bulkdl", "run", "-o", str(tmp_path / "fresh")])
    process = await asyncio.create_subprocess_exec(
        *("script", "-qec", f"stty cols 20; {command}", os.devnull),
        cwd=site.folder,
        env={**site.env, "TERM": "xterm", "COLUMNS": "20"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    assert b"Traceback" not in out
