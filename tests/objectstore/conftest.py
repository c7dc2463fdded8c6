import secrets

import pytest

from support import azurite as azurite_module
from support.s3_proxy import run_s3_proxy
from support.seaweedfs import PROGRAM, run_seaweedfs


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory):
    """SeaweedFS, one server for all tests."""
    assert PROGRAM.exists(), "SeaweedFS is not installed; run: make test-objectstore"
    with run_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        server.create_bucket("outputs")
        yield server


@pytest.fixture
def store_env(seaweedfs, monkeypatch):
    """Set the variables of the client, and return them."""
    env = seaweedfs.env()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def bucket_url(store_env):
    """Return the URL of an unused prefix."""
    return f"s3://outputs/{secrets.token_hex(6)}"


@pytest.fixture
def proxy(seaweedfs, store_env, monkeypatch):
    """Send the requests of the client through a proxy."""
    with run_s3_proxy(seaweedfs.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture(scope="session")
def azurite(tmp_path_factory):
    """Azurite, one emulator for all tests."""
    assert azurite_module.PROGRAM.exists(), "Azurite is not installed; run: make test-objectstore"
    with azurite_module.run_azurite(tmp_path_factory.mktemp("azurite")) as server:
        server.create_container("outputs")
        yield server


@pytest.fixture
def azure_env(azurite, monkeypatch):
    """Set the variables of the client, and return them."""
    env = azurite.env()
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env
