"""The client of an object store: settings, credentials that need an extra, and trusted certificates."""

import asyncio
import json
import sys

import pytest

from bulkdl import Settings
from bulkdl.destinations.network import ClientOptions
from bulkdl.destinations.objectstore.credentials import (
    find_azure_credentials,
    find_gcs_credentials,
    find_s3_credentials,
)
from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.errors import ConfigError
from bulkdl.graph.upload_options import upload_options
from bulkdl.settings import load_settings
from bulkdl.state.storage import create_storage
from support.gcs_fake import CA_FILE, run_gcs_fake

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "TOPSECRET"}
FEDERATION = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/nowhere/token"},
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a home directory without files, and remove the variables of AWS."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_profiles(home):
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[backup]\naws_access_key_id = AKID\naws_secret_access_key = TOPSECRET\n"
    )
    (home / ".aws" / "config").write_text("[profile backup]\nregion = eu-central-1\n")


@pytest.mark.parametrize(
    ("client", "config"),
    [
        (ClientOptions(), {}),
        (ClientOptions(region="eu-central-1"), {"region": "eu-central-1"}),
        (ClientOptions(endpoint="https://store.example:9000"), {"endpoint": "https://store.example:9000"}),
        (
            ClientOptions(endpoint="https://store.example:9000", path_style=False),
            {"endpoint": "https://b.store.example:9000", "virtual_hosted_style_request": "true"},
        ),
        (ClientOptions(path_style=False), {"virtual_hosted_style_request": "true"}),
        (
            ClientOptions(endpoint="http://store.example", allow_http=True),
            {"endpoint": "http://store.example"},
        ),
    ],
)
def test_create_store_for_s3_has_the_values_of_the_table(home, client, config):
    store = create_store("s3://b/prefix", client, KEYS)
    plain = {key: str(value).lower() for key, value in store.config.items()}
    assert {"checksum_algorithm": "crc64nvme", **config}.items() <= plain.items()


def test_create_store_table_replaces_the_endpoint_of_the_environment(home):
    store = create_store(
        "s3://b",
        ClientOptions(endpoint="https://store.example"),
        {**KEYS, "AWS_ENDPOINT_URL": "http://other"},
    )
    assert store.config["endpoint"] == "https://store.example"


def test_create_store_without_tls_names_the_settings(home):
    with pytest.raises(ValueError, match=r"object_store.endpoint: expected https://; set .* or allow_http"):
        create_store("s3://b", ClientOptions(endpoint="http://store.example"), KEYS)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read: No such file"), (b"key", "expected certificates in the format PEM")],
)
def test_create_store_invalid_ca_file_fails(home, content, problem):
    path = home / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=problem):
        create_store("s3://b", ClientOptions(ca_file=path), KEYS)
    with pytest.raises(ConfigError, match=problem):
        create_store("s3://b", None, {**KEYS, "AWS_CA_BUNDLE": str(path)})


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('endpoint = "https://user:TOPSECRET@store"', "expected a URL without user name and password"),
        ('endpoint = "store.example"', "expected a URL like https://store.example.com"),
        ('region = "eu central"', "object_store.region"),
        ('endpiont = "https://store"', "unknown setting; did you mean endpoint"),
        ('secret_access_key = "TOPSECRET"', "unknown setting"),
    ],
)
def test_table_invalid_value_fails_without_a_secret(tmp_path, table, problem):
    (tmp_path / "bulkdl.toml").write_text(f"[object_store]\n{table}\n")
    with pytest.raises(ConfigError, match=problem) as caught:
        load_settings({}, tmp_path / "bulkdl.toml", {})
    assert "TOPSECRET" not in str(caught.value)


def test_table_is_passed_to_the_client(tmp_path):
    (tmp_path / "bulkdl.toml").write_text(
        '[object_store]\nendpoint = "https://store/"\nca_file = "ca.pem"\npath_style = true\n'
    )
    options = upload_options(load_settings({}, tmp_path / "bulkdl.toml", {}).settings)
    assert options.client == ClientOptions(
        endpoint="https://store", ca_file=tmp_path / "ca.pem", path_style=True
    )
    assert upload_options(Settings()).client == ClientOptions()


def test_profile_of_aws_is_read_with_its_region(home, monkeypatch):
    write_profiles(home)
    monkeypatch.setenv("AWS_PROFILE", "backup")
    env = {"AWS_PROFILE": "backup"}
    provider = find_s3_credentials(env)
    assert provider()["access_key_id"] == "AKID"
    store = create_store("s3://b", None, env)
    assert store.config["region"] == "eu-central-1"
    assert create_store("s3://b", ClientOptions(region="us-west-2"), env).config["region"] == "us-west-2"
    assert "TOPSECRET" not in repr(store) + repr(provider)


def test_profile_of_aws_that_does_not_exist_fails(home, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(ConfigError, match=r"AWS_PROFILE.*\(missing\) could not be found"):
        find_s3_credentials({"AWS_PROFILE": "missing"})


@pytest.mark.parametrize("env", [{}, {**KEYS, "AWS_PROFILE": "backup"}])
def test_profile_of_aws_is_not_read_without_need(home, env):
    assert find_s3_credentials(env) is None


@pytest.mark.parametrize(
    ("module", "extra", "find", "env"),
    [
        ("boto3", "aws-profiles", find_s3_credentials, {"AWS_PROFILE": "backup"}),
        ("google", "gcp-auth", find_gcs_credentials, {"GOOGLE_APPLICATION_CREDENTIALS": "FILE"}),
        ("azure", "azure-auth", find_azure_credentials, {"AZURE_CLIENT_CERTIFICATE_PATH": "FILE"}),
    ],
)
def test_credentials_without_the_extra_fail_with_its_name(home, monkeypatch, module, extra, find, env):
    path = home / "credentials.json"
    path.write_text(json.dumps(FEDERATION))
    monkeypatch.setitem(sys.modules, f"obstore.auth.{module}", None)
    with pytest.raises(ConfigError, match=rf"needs the extra {extra}; install it with: pip install"):
        find({name: str(path) if value == "FILE" else value for name, value in env.items()})


def test_profile_files_without_the_extra_are_ignored(home, monkeypatch):
    write_profiles(home)
    monkeypatch.setitem(sys.modules, "obstore.auth.boto3", None)
    assert find_s3_credentials({}) is None


def test_federation_of_google_has_a_provider(home, monkeypatch):
    path = home / "credentials.json"
    path.write_text(json.dumps(FEDERATION))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert find_gcs_credentials({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}) is not None


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), ("[", "expected JSON"), ('{"type": "odd"}', "no credentials")],
)
def test_credentials_of_google_invalid_file_fails(home, monkeypatch, content, problem):
    path = home / "credentials.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigError, match=problem):
        find_gcs_credentials({"GOOGLE_APPLICATION_CREDENTIALS": str(path)})


@pytest.mark.parametrize("kind", ["service_account", "authorized_user"])
def test_credentials_of_google_that_the_client_reads_have_no_provider(home, kind):
    path = home / "credentials.json"
    path.write_text(json.dumps({"type": kind}))
    assert find_gcs_credentials({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}) is None


def test_certificate_of_azure_has_a_provider():
    assert find_azure_credentials({"AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere"}) is not None
    assert find_azure_credentials({"AZURE_STORAGE_ACCOUNT_KEY": "key"}) is None


def test_open_store_with_unknown_certificate_fails_until_it_is_trusted(tmp_path, monkeypatch):
    async def open_destination(**table):
        settings = Settings(object_store=table, retry_base_delay=0, retry_max_delay=0)
        async with create_storage("gs://outputs/x", tmp_path, uploads=upload_options(settings)) as storage:
            storage.state.prepare()
            await storage.destination.open()

    with run_gcs_fake(tls=True) as fake:
        for name, value in fake.env().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=r"certificate of the store is not trusted \(UnknownIssuer\)"):
            asyncio.run(open_destination())
        asyncio.run(open_destination(ca_file=CA_FILE))
        assert list(fake.buckets["outputs"]) == ["x/.bulkdl/probe"]
