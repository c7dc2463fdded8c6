"""Test ``bulkdl simulate`` as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from bulkdl.simulator import FAULTS

MODULE = [sys.executable, "-m", "bulkdl"]
WITHOUT_PILLOW = [
    sys.executable,
    "-c",
    "import sys; sys.modules['PIL'] = None; from bulkdl.cli import main; main()",
]


def refused(*arguments: str, program: list[str] = MODULE, **variables: str) -> str:
    """Return the single line on stderr of a start that fails."""
    done = subprocess.run(
        [*program, "simulate", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()[-1:]
    assert "Traceback" not in done.stderr
    return line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_simulate_prints_its_urls_and_exits_on_a_signal(number: signal.Signals, code: int) -> None:
    command = [*MODULE, "simulate", "--jobs", "1000000", "--projects", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        line = json.loads(process.stdout.readline())
        assert list(line) == ["api_url", "storage_url", "projects", "account"]
        assert line["account"] == {"username": "someone@example.com", "password": "correct horse"}
        assert len(line["projects"]) == 3
        assert all(set(project) == {"id", "api_key"} for project in line["projects"])
        for name in ("api_url", "storage_url"):
            parts = urlsplit(line[name])
            assert parts.hostname
            assert parts.port
            connection = HTTPConnection(parts.hostname, parts.port)
            connection.request("GET", "/users/me")
            assert connection.getresponse().status in {401, 403}
            connection.close()
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stdout.read() == process.stderr.read() == ""


def test_simulate_reads_options_from_variables() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused(BULKDL_SIMULATE_PORT=port)
    assert "--port" in line


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('[[rule]]\nfault = "cut"\nat_bite = 3\n', ["faults.toml", "rule 1", "at_bite"]),
        ('[[rule]]\nfault = "cat"\n', ["faults.toml", "rule 1", "'cat'"]),
        ("[[rule]\n", ["faults.toml"]),
        (None, ["faults.toml", "cannot be read"]),
    ],
)
def test_simulate_invalid_fault_script_is_reported_in_one_line(
    script: str | None, words: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "faults.toml"
    if script is not None:
        path.write_text(script)
    line = refused("--faults", str(path))
    assert all(word in line for word in words)


@pytest.mark.parametrize("value", ["x", "5-2", "1Q", "-5"])
def test_simulate_invalid_size_is_rejected(value: str) -> None:
    assert "--archive-bytes" in refused(f"--archive-bytes={value}")


@pytest.mark.parametrize("option", ["--items", "--item-assets"])
@pytest.mark.parametrize("value", ["x", "5-2", "-5", "1-61", "1-x"])
def test_simulate_invalid_count_is_rejected(option: str, value: str) -> None:
    assert option in refused(f"{option}={value}")


def test_simulate_serves_a_storage_of_the_requested_size() -> None:
    command = [*MODULE, "simulate", "--assets", "300000", "--items", "1", "--item-assets", "4-5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            parts = urlsplit(line["api_url"])
            connection = HTTPConnection(str(parts.hostname), parts.port)
            form = urlencode({**line["account"], "grant_type": "password", "client_id": "up42-api"})
            connection.request("POST", "/realms/public/protocol/openid-connect/token", form)
            token = json.loads(connection.getresponse().read())["access_token"]
            connection.request("GET", "/v2/assets?size=1", headers={"Authorization": f"Bearer {token}"})
            assert json.loads(connection.getresponse().read())["totalElements"] == 300_000
            connection.close()
        finally:
            process.terminate()
        assert process.wait(20) == 143


def test_simulate_without_pillow_names_the_extra() -> None:
    assert "pip install 'bulkdl[simulator]'" in refused(program=WITHOUT_PILLOW)


def test_simulate_lists_its_faults() -> None:
    done = subprocess.run([*MODULE, "simulate", "--list-faults"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(FAULTS)


def test_simulate_help_ends_with_an_example() -> None:
    done = subprocess.run([*MODULE, "simulate", "--help"], capture_output=True, text=True, check=True)
    assert "BULKDL_SIMULATE_PAGE_SIZE" in done.stdout
    assert done.stdout.splitlines()[-1].strip().startswith("Example: ")
