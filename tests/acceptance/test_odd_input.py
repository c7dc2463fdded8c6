"""Invalid paths, keys and settings: exit code 2, one clear line, and no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
KEY = "kEyCanary.0123456789abcdefABCDEF0123456789"
LONG = "z" * 256
ENV = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
TABLE = f'[[projects]]\nid = "{P1}"\n'


def bulkdl(
    folder: Path, *args: str, config: str | bytes | None = None, **env: str
) -> subprocess.CompletedProcess:
    given = dict(ENV, PYTHONPATH=str(Path(__file__).parents[2]), **env)
    if config is not None:
        path = folder / "bulkdl.toml"
        path.write_bytes(config if isinstance(config, bytes) else config.encode())
        given["BULKDL_CONFIG"] = str(path)
    return subprocess.run(
        [sys.executable, "-m", "bulkdl", *args],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def is_usage_error(done: subprocess.CompletedProcess, *words: str) -> bool:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("bulkdl: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert KEY not in done.stderr
    assert [word for word in words if word not in done.stderr] == []
    return True


@pytest.mark.parametrize("command", ["run", "plan", "status", "verify", "retry"])
@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("~nosuchuser42/x", ("--output", "home directory", "~nosuchuser42")),
        (LONG, ("--output", "too long", "255")),
        (f"{'d/' * 3000}x", ("--output", "too long")),
    ],
    ids=["home", "long name", "long path"],
)
def test_output_with_an_invalid_path_exits_with_2(tmp_path, command, output, words):
    assert is_usage_error(bulkdl(tmp_path, command, "-o", output, UP42_TOKEN="t"), *words)


@pytest.mark.parametrize("option", ["-c", "-i", "--metrics-file"])
@pytest.mark.parametrize("path", ["~nosuchuser42/x", LONG], ids=["home", "long name"])
def test_file_option_with_an_invalid_path_exits_with_2(tmp_path, option, path):
    done = bulkdl(tmp_path, "run", "-p", P1, "-o", "out", option, path, UP42_TOKEN="t")
    assert is_usage_error(done, "home directory" if path[0] == "~" else "too long")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (f'{TABLE}api_key_env = "{KEY}"\n', ("projects[1].api_key_env", "is not set")),
        (f'{TABLE}api_key_file = "{KEY}"\n', ("projects[1].api_key_file", "cannot be read")),
        (f'{TABLE}api_key_file = "a\\u0000b"\n', ("projects[1].api_key_file", "NUL")),
        (f'{TABLE}api_key_file = "~nosuchuser42/k"\n', ("projects[1].api_key_file", "home directory")),
        (f'{TABLE}api_key = "{KEY}"\n', ("projects[1].api_key", "unknown")),
        (f'[[projects]]\nid = "{KEY}"\n', ("projects[1].id", "expected an ID")),
        (f'rate = "{KEY}"\n', ("rate", "expected")),
        ('metrics_file = "a\\u0000b"\n', ("metrics_file", "NUL")),
        ('metrics_file = "/"\n', ("metrics_file", "expected the path of a file")),
        ("rate = nan\n", ("rate",)),
        ("retries = []\n", ("retries",)),
        ("nosuch = 1\n", ("nosuch", "unknown")),
        ("projects = 1\n", ("projects",)),
        ('[path_templates]\njob = "../../etc/{job_id}"\n', ("path_templates.job",)),
        (b"\xff\xfe", ("UTF-8",)),
        ("rate = \n", ("bulkdl.toml:1",)),
    ],
)
def test_config_with_an_invalid_value_exits_with_2_and_names_the_key(tmp_path, config, words):
    assert is_usage_error(bulkdl(tmp_path, "run", "-o", "out", config=config), *words)
    assert not (tmp_path / "out").exists()


def test_config_with_a_byte_order_mark_is_read(tmp_path):
    done = bulkdl(tmp_path, "config", config=b"\xef\xbb\xbfretries = 3\n", UP42_TOKEN="t")
    assert done.returncode == 0, done
    assert "retries" in done.stdout


@pytest.mark.parametrize("name", ["UP42_TOKEN_FILE", "UP42_PROJECT_API_KEY_FILE"])
def test_secret_in_place_of_a_file_name_is_masked(tmp_path, name):
    done = bulkdl(tmp_path, "run", "-p", P1, "-o", "out", UP42_PROJECT_ID=P1, **{name: KEY})
    assert is_usage_error(done, name, "cannot be read")
