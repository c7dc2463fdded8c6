from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CANARY = "cAnArY-9f8e7d"
P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"


def bulkdl(*args, cwd, env=None, **more) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
    return subprocess.run(
        [sys.executable, "-m", "bulkdl", *args],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **more,
    )


@pytest.mark.parametrize("profile", ["example", "nightly", "backfill"])
def test_config_accepts_each_profile(tmp_path, profile):
    ended = bulkdl("config", "-c", str(ROOT / "config" / f"{profile}.toml"), "--format", "json", cwd=tmp_path)
    assert ended.returncode == 0
    assert "archive_concurrency" in json.loads(ended.stdout)["settings"]


@pytest.mark.parametrize("command", ["run", "plan", "status", "config"])
def test_config_with_an_unknown_key_names_file_and_key_and_proposes_a_key(tmp_path, command):
    (tmp_path / "c.toml").write_text("archive = 3\n")
    ended = bulkdl(command, "-c", "c.toml", "-o", "out", cwd=tmp_path, env={"UP42_TOKEN": CANARY})
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == "bulkdl: c.toml: archive: unknown setting; did you mean archive_concurrency?\n"
    assert not (tmp_path / "out").exists()


def test_config_with_the_table_of_an_unknown_kind_exits_with_2_and_names_the_kinds(tmp_path):
    (tmp_path / "c.toml").write_text("[kinds.picture]\nconcurrency = 3\n")
    ended = bulkdl("run", "-c", "c.toml", "-o", "out", cwd=tmp_path, env={"UP42_TOKEN": CANARY})
    assert ended.returncode == 2
    assert ended.stderr.startswith("bulkdl: c.toml: kinds.picture: expected 'archive', 'quicklook'")
    assert ended.stderr.endswith(", got 'picture'\n")
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_config_with_invalid_toml_names_file_and_line(tmp_path):
    (tmp_path / "c.toml").write_text("archives = 3\nrate == 5\n")
    ended = bulkdl("config", "-c", "c.toml", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("bulkdl: c.toml:2: invalid TOML: ")
    assert ended.stderr.count("\n") == 1


def test_config_with_a_closed_stdout_returns_0(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
    command = [sys.executable, "-m", "bulkdl", "config"]
    env = {**kept, "PYTHONPATH": str(ROOT), "UP42_TOKEN": CANARY}
    with os.fdopen(writing, "w") as stdout:
        ended = subprocess.run(
            command, cwd=tmp_path, env=env, stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    assert ended.returncode == 0
    assert ended.stderr == b""


@pytest.mark.parametrize(
    ("command", "unneeded"),
    [
        ((), ("aiohttp", "pydantic", "rich", "asyncio")),
        (("run",), ("aiohttp.web", "prometheus_client", "PIL", "rich", "pygments")),
    ],
)
def test_help_imports_only_the_module_of_its_command(tmp_path, command, unneeded):
    code = f"""
import sys
import bulkdl.cli
sys.argv = ["bulkdl", *{command}, "--help"]
try:
    bulkdl.cli.main()
finally:
    print(*(name for name in {unneeded} if name in sys.modules))
"""
    kept = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=kept, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == ""


def test_run_in_a_pipe_prints_no_colours_and_no_bars(tmp_path):
    ended = bulkdl("config", cwd=tmp_path, env={"UP42_TOKEN": CANARY})
    assert "\x1b" not in ended.stdout + ended.stderr
    assert CANARY not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("eu", {"https://api.up42.com": ["jobs", "storage"]}),
        ("sa", {"https://api.up42.com": ["jobs"], "https://api.sa.up42.com": ["storage"]}),
    ],
)
def test_config_shows_the_rate_limit_of_each_api_origin(tmp_path, region, expected):
    flags = ("--source", "jobs,storage", "--region", region, "--rate", "20")
    table = bulkdl("config", *flags, cwd=tmp_path).stdout
    rows = re.findall(r"rate_limit\.(\S+) +20 requests/s, burst 400: (.+?) +flag --rate", table)
    assert {origin: names.split(", ") for origin, names in rows} == expected
    document = json.loads(bulkdl("config", *flags, "--format", "json", cwd=tmp_path).stdout)
    assert {limit["origin"]: limit["sources"] for limit in document["rate_limits"]} == expected
    assert {(limit["rate"], limit["burst"]) for limit in document["rate_limits"]} == {(20.0, 400)}
