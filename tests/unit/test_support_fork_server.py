"""The processes of the fork server behave like executed processes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support import fork_server

ROOT = Path(__file__).resolve().parents[2]
BULKDL = [sys.executable, "-m", "bulkdl"]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True, params=["forked", "executed"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    how = fork_server._start if request.param == "forked" else fork_server._execute_child
    monkeypatch.setattr(subprocess.Popen, "_execute_child", how)


def test_process_uses_its_arguments_environment_and_folder(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('output = "from the file"\n')
    command = [*BULKDL, "config", "-c", "own.toml"]
    env = {**ENVIRONMENT, "BULKDL_RATE": "41", "UP42_TOKEN": "x"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "from the file" in done.stdout
    assert "BULKDL_RATE" in done.stdout
    assert done.stderr == ""


def test_process_with_a_usage_error_returns_2_and_writes_to_stderr() -> None:
    done = subprocess.run(
        [*BULKDL, "no-command"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "no-command" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_process_that_receives_a_signal_ends(number: signal.Signals) -> None:
    command = [*BULKDL, "simulate", "--jobs", "1"]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(number)
        assert process.wait() == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}[number]


def start_cat(flags: list[str], env: dict[str, str]) -> fork_server._Server:
    """Start a process that ends, like a server, when its connection is closed."""
    ours, theirs = socket.socketpair()
    with theirs:
        return ours, subprocess.Popen(["cat"], stdin=theirs)


@pytest.mark.parametrize("start", ["executed"], indirect=True)
def test_server_that_was_not_used_for_the_longest_time_ends(
    start: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "_servers", {})
    monkeypatch.setattr(fork_server, "_MAX_SERVERS", 2)
    monkeypatch.setattr(fork_server, "_start_server", start_cat)
    processes = []
    for language in ("a", "b", "a", "c", "a", "b"):
        fork_server._server_for(BULKDL, {"LANGUAGE": language})
        processes.append(next(reversed(fork_server._servers.values()))[1])
    assert processes[0] is processes[2] is processes[4]
    assert processes[5] is not processes[1]
    assert [process.returncode for process in processes] == [None, 0, None, 0, None, None]
    for server in fork_server._servers.values():
        fork_server._end_server(*server)


def test_process_does_not_close_a_file_of_the_caller(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+") as stdout:
        subprocess.run([*BULKDL, "--version"], env=ENVIRONMENT, stdout=stdout, check=True)
        stdout.seek(0)
        assert stdout.read().startswith("bulkdl")
