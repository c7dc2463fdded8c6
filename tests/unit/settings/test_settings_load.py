from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bulkdl.errors import ConfigError
from bulkdl.settings import Settings, Shard, load_settings, variable_names
from bulkdl.settings.levels import Level
from bulkdl.settings.load import all_keys, format_value
from bulkdl.sources.up42_jobs.models import Kind

PROJECT = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"


@pytest.fixture
def config(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "bulkdl.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def load_error(flags=None, path=None, env=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags or {}, path, env or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("in_file", "in_env", "in_flag", "value", "source"),
    [
        (None, None, None, "auto", "default"),
        ("5", None, None, 5, "file {path}"),
        ("5", "6", None, 6, "env BULKDL_ARCHIVE_CONCURRENCY"),
        ("5", "6", "7", 7, "flag --archive-concurrency"),
        (None, None, "7", 7, "flag --archive-concurrency"),
        ("5", "", None, 5, "file {path}"),
    ],
)
def test_load_settings_applies_flags_over_variables_over_file_over_defaults(
    config, in_file, in_env, in_flag, value, source
):
    path = config(f"archive_concurrency = {in_file}" if in_file else "")
    env = {} if in_env is None else {"BULKDL_ARCHIVE_CONCURRENCY": in_env}
    loaded = load_settings({"archive_concurrency": in_flag}, path, env)
    assert loaded.settings.archive_concurrency == value
    assert loaded.sources["archive_concurrency"] == source.format(path=path)


def test_load_settings_reads_the_config_file_of_the_variable_unless_a_flag_names_one(config, tmp_path):
    named = config("archive_concurrency = 9")
    assert load_settings({}, None, {"BULKDL_CONFIG": str(named)}).settings.archive_concurrency == 9
    other = tmp_path / "other.toml"
    other.write_text("archive_concurrency = 3")
    assert load_settings({}, other, {"BULKDL_CONFIG": str(named)}).settings.archive_concurrency == 3


def test_load_settings_returns_a_source_for_every_key():
    loaded = load_settings({}, None, {})
    assert set(loaded.sources) == set(all_keys())
    assert set(loaded.sources.values()) == {"default"}
    assert set(variable_names()) == set(Settings.model_fields) - {
        "kinds",
        "notify",
        "object_store",
        "path_templates",
        "processor_settings",
        "source_settings",
        "projects",
        "accounts",
    }


def test_load_settings_converts_variables_to_the_type_of_the_key():
    env = {
        "BULKDL_BWLIMIT": "1.5M",
        "BULKDL_SPEED_TIME": "2m",
        "BULKDL_ONLY": "archive,geojson",
        "BULKDL_SCOPE": "job",
        "BULKDL_SHARD": "1/3",
        "BULKDL_STATUS": "not started",
        "BULKDL_MODE": "dry run",
        "BULKDL_ALLOW_HTTP": "true",
        "BULKDL_VERBOSE": "-1",
        "BULKDL_OUTPUT": "~/x",
    }
    settings = load_settings({}, None, env).settings
    assert str(settings.bwlimit) == "1536K"
    assert settings.speed_time == 120
    assert settings.only == {Kind.ARCHIVE, Kind.GEOJSON}
    assert settings.scope == {Level.JOB}
    assert settings.shard == Shard(1, 3)
    assert settings.status == ("NOT_STARTED",)
    assert settings.mode == "DRY_RUN"
    assert settings.allow_http is True
    assert settings.verbose == -1
    assert settings.output == Path.home() / "x"


def test_settings_ignore_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BULKDL_ARCHIVE_CONCURRENCY", "9")
    settings = Settings(output=tmp_path)
    assert (settings.archive_concurrency, settings.output) == ("auto", tmp_path)
    with pytest.raises(ValidationError):
        Settings(output=tmp_path, archive=3)
    with pytest.raises(ValidationError):
        settings.archive_concurrency = 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("archive = 3", "{path}: archive: unknown setting; did you mean archive_concurrency?"),
        ("grace = 3", "{path}: grace: unknown setting; did you mean shutdown_timeout?"),
        ("http = 'x'", "{path}: http: unknown setting; did you mean listen?"),
        ("[[project]]\nid = 'x'", "{path}: project: unknown setting; did you mean projects?"),
        ("[path_templates]\njobb = 'x'", "{path}: path_templates.jobb: unknown setting; did you mean job?"),
        ("[transfer]\nx = 1", "{path}: transfer: unknown setting"),
        ("zzz = 1", "{path}: zzz: unknown setting"),
        (
            "archive_concurrency = 'many'",
            "{path}: archive_concurrency: expected a number from 1 to 256, or auto, got 'many'",
        ),
        (
            "archive_concurrency = 0",
            "{path}: archive_concurrency: expected a number from 1 to 256, or auto, got '0'",
        ),
        ("list_concurrency = 0", "{path}: list_concurrency: expected greater than or equal to 1, got '0'"),
        ("bwlimit = '2X'", "{path}: bwlimit: expected a size in bytes such as"),
        ("speed_time = '5y'", "{path}: speed_time: expected a duration such as"),
        ("log_format = 'xml'", "{path}: log_format: expected 'auto', 'console' or 'json', got 'xml'"),
        (
            "only = ['tar']",
            "{path}: only[1]: expected 'archive', 'quicklook', 'geojson', 'original', 'asset', 'preview' or "
            "'metadata', got 'tar'",
        ),
        ("only = []", "{path}: only: "),
        ("since = 'soon'", "{path}: since: expected a date"),
        ("shard = '4/4'", "{path}: shard: expected K/N"),
        ("workflow = 'w'", "{path}: workflow: expected an ID"),
        ("archive_concurrency = 0\nquicklook_concurrency = 0", "(and 1 more)"),
        ("[[projects]]\nid = 'x'", "{path}: projects[1].id: expected an ID"),
        (
            f"[[projects]]\nid = '{PROJECT}'\n[[projects]]\napi_key_env = 'K'",
            "{path}: projects[2].id: field required",
        ),
        (
            f"[[projects]]\nid = '{PROJECT}'\napi_key_env = 'K'\napi_key_file = 'f'",
            "{path}: projects[1]: expected one of api_key_env and api_key_file",
        ),
        ("a = 1\nb = [1,\nc = 2", "{path}:3: invalid TOML"),
        ("a = \n", "{path}:1: invalid TOML"),
        ("a = [1,", "invalid TOML"),
    ],
)
def test_load_settings_with_an_invalid_file_names_file_key_and_expected_value(config, text, message):
    path = config(text)
    assert message.format(path=path) in load_error(path=path)


def test_load_settings_with_a_misplaced_secret_hides_it(config):
    message = load_error(path=config(f"[[projects]]\nid = '{PROJECT}'\napi_key = 'canary-key'"))
    assert "projects[1].api_key: unknown setting; did you mean api_key_" in message
    assert "canary-key" not in message


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_load_settings_with_an_unreadable_file_names_it(tmp_path, name):
    assert str(tmp_path / name) in load_error(path=tmp_path / name)
    assert "cannot be read" in load_error(path=tmp_path / name)


def test_load_settings_with_a_binary_file_fails(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"a = '\xff'")
    assert "expected UTF-8" in load_error(path=tmp_path / "x.toml")


def test_load_settings_accepts_a_byte_order_mark(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfarchive_concurrency = 5\r\n")
    assert load_settings({}, tmp_path / "x.toml", {}).settings.archive_concurrency == 5


def test_load_settings_with_an_invalid_value_names_the_variable_or_flag():
    assert load_error(env={"BULKDL_ARCHIVE_CONCURRENCY": "x"}).startswith(
        "BULKDL_ARCHIVE_CONCURRENCY: expected"
    )
    assert load_error({"speed_limit": "x"}).startswith("--speed-limit: expected")


@pytest.mark.parametrize(
    ("url", "extra", "is_valid"),
    [
        ("https://api.up42.com", {}, True),
        ("https://mirror.example/up42/", {}, True),
        ("http://localhost:8042", {}, True),
        ("http://127.0.0.1:8042", {}, True),
        ("http://127.9.9.9", {}, True),
        ("http://[::1]:8042", {}, True),
        ("http://api.localhost", {}, True),
        ("http://api.up42.com", {}, False),
        ("http://10.0.0.1", {}, False),
        ("http://localhost.example.com", {}, False),
        ("http://10.0.0.1", {"allow_http": True}, True),
        ("ftp://localhost", {}, False),
        ("api.up42.com", {}, False),
        ("https://", {}, False),
        ("https://host:port", {}, False),
        ("https://[::1", {}, False),
        ("https://api.up42.com?x=1", {}, False),
    ],
)
@pytest.mark.parametrize("key", ["api_url", "auth_url", "token_url"])
def test_api_url_with_http_is_accepted_for_loopback_only(key, url, extra, is_valid):
    flags = {key: url, **extra}
    if is_valid:
        assert getattr(load_settings(flags, None, {}).settings, key) == url.rstrip("/")
    else:
        assert load_error(flags).startswith(f"--{key.replace('_', '-')}: expected")


def test_api_url_with_credentials_is_rejected_without_quoting_it():
    message = load_error({"api_url": "https://me:canary-pw@api.up42.com"})
    assert "without user name and password" in message
    assert "canary-pw" not in message


def test_token_endpoint_defaults_to_the_api_url():
    assert Settings().token_endpoint == "https://api.up42.com/oauth/token"
    assert Settings(api_url="http://localhost:1/").token_endpoint == "http://localhost:1/oauth/token"
    assert Settings(token_url="https://login.example/t").token_endpoint == "https://login.example/t"


@pytest.mark.parametrize(
    ("settings", "api_url", "token_origin"),
    [
        ({}, "https://api.up42.com", "https://auth.up42.com"),
        ({"region": "sa"}, "https://api.sa.up42.com", "https://auth.sa.up42.com"),
        ({"api_url": "https://api.sa.up42.com"}, "https://api.sa.up42.com", "https://auth.sa.up42.com"),
        ({"api_url": "http://localhost:1/base"}, "http://localhost:1/base", "http://localhost:1"),
        ({"api_url": "http://localhost:1", "region": "sa"}, "http://localhost:1", "http://localhost:1"),
        ({"auth_url": "https://login.example/"}, "https://api.up42.com", "https://login.example"),
    ],
)
def test_account_endpoints_follow_region_and_urls(settings, api_url, token_origin):
    loaded = Settings(**settings)
    assert loaded.account_api_url == api_url
    assert loaded.account_token_endpoint == f"{token_origin}/realms/public/protocol/openid-connect/token"


def test_region_that_does_not_exist_is_rejected():
    assert "eu" in load_error({"region": "us"})


@pytest.mark.parametrize(
    ("rate", "url", "is_valid"),
    [
        ("100", "https://api.up42.com", True),
        ("100.5", "https://api.up42.com", False),
        ("0", "https://api.up42.com", False),
        ("100.5", "https://api.sa.up42.com", False),
        ("0", "http://localhost:1", True),
        ("5000", "http://localhost:1", True),
        ("-1", "http://localhost:1", False),
        ("nan", "http://localhost:1", False),
    ],
)
def test_rate_above_the_limit_of_up42_is_rejected(rate, url, is_valid):
    flags = {"rate": rate, "api_url": url}
    if is_valid:
        assert load_settings(flags, None, {}).settings.rate == float(rate)
    else:
        assert load_error(flags).startswith("--rate: ")


def test_load_settings_warns_of_unknown_variables_except_those_of_kubernetes():
    env = {
        "BULKDL_ARCHIVE": "3",
        "BULKDL_GRACE": "3",
        "BULKDL_SERVICE_HOST": "10.0.0.1",
        "BULKDL_PORT": "tcp://10.0.0.1:80",
        "BULKDL_PROJECT": PROJECT,
        "BULKDL_FORMAT": "json",
    }
    assert load_settings({}, None, env).warnings == (
        "unknown setting BULKDL_ARCHIVE; did you mean BULKDL_ARCHIVE_CONCURRENCY?",
        "unknown setting BULKDL_GRACE; did you mean BULKDL_SHUTDOWN_TIMEOUT?",
    )


def test_load_settings_with_a_project_variable_keeps_the_tables(config):
    path = config(f"[[projects]]\nid = '{PROJECT.upper()}'\napi_key_env = 'K'")
    settings = load_settings({}, path, {"BULKDL_PROJECT": "x"}).settings
    assert [table.id for table in settings.projects] == [PROJECT]


def test_load_settings_resolves_key_files_relative_to_the_config_file(config, tmp_path):
    path = config(f"[[projects]]\nid = '{PROJECT}'\napi_key_file = 'keys/one'")
    assert load_settings({}, path, {}).settings.projects[0].api_key_file == tmp_path / "keys" / "one"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (30.0, "30"),
        (0.25, "0.25"),
        (frozenset({Kind.GEOJSON, Kind.ARCHIVE}), "archive,geojson"),
        (("A", "B"), "A,B"),
        (Shard(0, 4), "0/4"),
    ],
)
def test_format_value_writes_a_value_like_the_user(value, text):
    assert format_value(value) == text
