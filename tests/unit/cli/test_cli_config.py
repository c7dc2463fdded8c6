from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from bulkdl.cli.config import config
from bulkdl.settings import all_keys
from bulkdl.source_spec import kind_names

P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
CANARY = "cAnArY-9f8e7d"


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("BULKDL_", "UP42_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(
        f"quicklook_concurrency = 3\n[[projects]]\nid = '{P1}'\napi_key_env = 'K'\n"
        "[path_templates]\njob = '{job_id}.json'\n"
    )
    (tmp_path / "token").write_text(CANARY)
    monkeypatch.setenv("K", CANARY)
    monkeypatch.setenv("BULKDL_ARCHIVE_CONCURRENCY", "9")
    monkeypatch.setenv("UP42_USERNAME", "me@example.com")
    monkeypatch.setenv("UP42_PASSWORD", CANARY)
    monkeypatch.setenv("UP42_TOKEN_FILE", "token")


def test_config_prints_each_key_with_value_and_source():
    result = CliRunner().invoke(config, ["-c", "c.toml", "--rate", "50"], standalone_mode=False)
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in result.stdout.splitlines()}
    assert set(all_keys()) <= set(rows)
    assert rows["archive_concurrency"] == ["9", "env BULKDL_ARCHIVE_CONCURRENCY"]
    assert rows["quicklook_concurrency"] == ["3", "file c.toml"]
    assert rows["rate"] == ["50", "flag --rate"]
    assert rows["geojson_concurrency"] == ["auto", "default"]
    assert rows["kinds.archive.concurrency"] == ["9", "env BULKDL_ARCHIVE_CONCURRENCY"]
    assert rows["kinds.quicklook.concurrency"] == ["3", "file c.toml"]
    assert rows["kinds.geojson.max_size"] == ["512M", "default"]
    assert rows["path_templates.job"] == ["{job_id}.json", "file c.toml"]
    assert rows["projects"] == [P1, "file c.toml"]
    assert rows["UP42_PASSWORD"] == ["***", "env UP42_PASSWORD"]
    assert rows["UP42_TOKEN"] == ["***", "env UP42_TOKEN_FILE, file token"]


def test_config_with_json_format_prints_the_same_values():
    result = CliRunner().invoke(config, ["-c", "c.toml", "--format", "json"], standalone_mode=False)
    document = json.loads(result.stdout)
    assert set(document["settings"]) == set(all_keys())
    assert document["settings"]["archive_concurrency"] == {
        "value": 9,
        "source": "env BULKDL_ARCHIVE_CONCURRENCY",
    }
    assert document["settings"]["only"]["value"] == sorted(kind_names())
    assert document["credentials"]["UP42_PASSWORD"]["value"] == "***"


@pytest.mark.parametrize("form", ["table", "json"])
def test_config_masks_secrets(form):
    result = CliRunner().invoke(config, ["-c", "c.toml", "--format", form], standalone_mode=False)
    assert "UP42_PASSWORD" in result.stdout
    assert CANARY not in result.output


def test_config_with_incomplete_credentials_warns_and_returns_0(monkeypatch):
    monkeypatch.delenv("UP42_USERNAME")
    result = CliRunner().invoke(config, [], standalone_mode=False)
    assert result.return_value == 0
    assert "UP42_USERNAME: is missing" in result.stderr
