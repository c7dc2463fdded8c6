"""Closed, full and narrow output streams: the exit code stays that of the result, and no traceback."""

import asyncio
import os
import shlex
import sys
from pathlib import Path

import pytest

from bulkdl.simulator import SimulatedAccount, Simulator
from support.filled_directory import Ended, Site

COMMANDS = {
    "run": "run",
    "run as JSON": "run --format json",
    "plan": "plan",
    "status": "status",
    "failures": "status --failures --format csv",
    "verify": "verify",
    "config": "config",
    "help": "--help",
    "version": "--version",
}
NOISE = ("Traceback", "this is a bug", "Exception ignored", "Error in sys")


@pytest.fixture
async def site(tmp_path):
    async with Simulator(SimulatedAccount(projects=1, jobs=2, archive_bytes=2_000)) as simulator:
        made = Site(tmp_path, simulator)
        assert (await made.bulkdl("run")).code == 0
        yield made


async def shell(site: Site, command: str, redirect: str, **env: str | None) -> Ended:
    """Run *command* with a redirection of the shell; its own exit code, whatever follows in a pipe."""
    words = shlex.join([sys.executable, "-W", "error", "-m", "bulkdl"])
    given = {**site.env, **env}
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{words} {command} {redirect}; exit ${{PIPESTATUS[0]}}"),
        cwd=site.folder,
        env={key: value for key, value in given.items() if value is not None},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


def is_quiet(done: Ended) -> bool:
    return not any(word in done.err + done.out for word in NOISE)


@pytest.mark.parametrize(
    ("command", "redirect"),
    [
        *((command, "> /dev/full") for command in COMMANDS.values()),
        *((COMMANDS[name], ">&-") for name in ("run", "failures", "help")),
    ],
)
async def test_stdout_closed_or_full_keeps_the_exit_code(site, command, redirect):
    done = await shell(site, command, redirect)
    assert done.code == 0, done
    assert is_quiet(done), done
    assert "cannot be written to stdout" in done.err


async def test_stdout_full_does_not_hide_a_failure(site):
    site.file("**/job_output.json").unlink()
    done = await shell(site, "verify", "> /dev/full")
    assert done.code == 6, done
    assert is_quiet(done)


@pytest.mark.parametrize("command", [COMMANDS[name] for name in ("run", "failures", "help")])
async def test_stdout_into_a_pipe_that_is_closed_keeps_the_exit_code(site, command):
    done = await shell(site, command, "| true")
    assert done.code == 0, done
    assert is_quiet(done), done


@pytest.mark.parametrize("command", ["run -v", "verify --no-such-option"])
@pytest.mark.parametrize("redirect", ["2>&-", "2> /dev/full", "<&- >&- 2>&-"])
async def test_stderr_closed_or_full_keeps_the_exit_code(site, command, redirect):
    done = await shell(site, command, redirect)
    assert done.code == (2 if "no-such" in command else 0), done
    assert is_quiet(done), done


async def test_closed_descriptors_are_not_given_to_a_file(site, tmp_path):
    """A partial file or the ledger with the number 1 or 2 would receive whatever is printed."""
    for path in site.output.rglob("*.tar*"):
        path.unlink()
    fresh = tmp_path / "fresh"
    done = await shell(site, f"run -o {fresh} -vv --log-format console", "<&- >&- 2>&-")
    assert done.code == 0
    verified = await site.bulkdl("verify", "--deep", "-o", str(fresh))
    assert verified.code == 0, verified


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
async def test_poor_environment_keeps_the_exit_code(site, env):
    for command in ("run --format json --log-format json -v", "status", "config"):
        done = await shell(site, command, "", **env)
        assert done.code == 0, done
        assert is_quiet(done), done


async def test_umask_077_makes_private_files_and_a_second_run_works(site, tmp_path):
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


async def test_terminal_of_20_columns_is_no_problem(site, tmp_path):
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
