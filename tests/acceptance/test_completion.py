"""The completion of commands and options in a shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bulkdl.cli import COMMANDS
from support.environment import clear_environment

ROOT = Path(__file__).parents[2]


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = dict(os.environ)
    clear_environment(kept)
    kept |= {"PYTHONPATH": str(ROOT), "BULKDL_TEST_FORK": "0", **env}
    return subprocess.run(command, env=kept, capture_output=True, text=True, check=True)


def complete(line: str, *options: str) -> tuple[list[str], str]:
    """Return the candidates for the last word of *line*, and stderr."""
    words = str(len(line.split()) - (not line.endswith(" ")))
    command = (sys.executable, *options, "-m", "bulkdl")
    done = run(*command, _BULKDL_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=words)
    return [item.partition(",")[2] for item in done.stdout.splitlines()], done.stderr


def test_completion_of_a_command_lists_all_commands_without_their_imports() -> None:
    names, imports = complete("bulkdl ", "-X", "importtime")
    assert names == list(COMMANDS)
    assert "bulkdl.cli" in imports
    assert not [
        module for module in ("bulkdl.cli.run", "aiohttp", "pydantic", "asyncio\n") if module in imports
    ]


def test_completion_of_the_start_of_a_command_lists_the_matches() -> None:
    assert complete("bulkdl st")[0] == ["status"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bulkdl run --archive-", {"--archive-concurrency"}),
        ("bulkdl status --fa", {"--failures"}),
        ("bulkdl --ver", {"--version"}),
    ],
)
def test_completion_of_an_option_lists_the_options_of_the_command(line: str, expected: set[str]) -> None:
    assert expected == set(complete(line)[0])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_of_a_shell_has_valid_syntax(tmp_path: Path, shell: str) -> None:
    script = run(sys.executable, "-m", "bulkdl", _BULKDL_COMPLETE=f"{shell}_source").stdout
    assert "_BULKDL_COMPLETE" in script
    if shutil.which(shell):
        path = tmp_path / "completion"
        path.write_text(script)
        run(shell, "-n", str(path))


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_in_bash_returns_the_candidates(tmp_path: Path) -> None:
    script = run(sys.executable, "-m", "bulkdl", _BULKDL_COMPLETE="bash_source").stdout
    program = tmp_path / "bulkdl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bulkdl "$@"\n')
    program.chmod(0o755)
    call = (
        'COMP_WORDS=(bulkdl ver); COMP_CWORD=1; _bulkdl_completion bulkdl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = run("bash", "-c", f"{script}\n{call}", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout.split() == ["verify"]
