import os
from collections.abc import Iterator

import pytest

from support.peer_storage import ExpectedStorage, import_client, log_in, read_expected_storage, serve_storage

import_client()
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


@pytest.fixture(scope="session")
def expected() -> ExpectedStorage:
    return read_expected_storage()


@pytest.fixture(scope="session")
def shared_url() -> Iterator[str]:
    with serve_storage() as url:
        yield url


@pytest.fixture
def storage(shared_url: str) -> str:
    """Return the URL of a simulator that all tests share, with the client logged in."""
    log_in(shared_url)
    return shared_url


@pytest.fixture
def own_storage() -> Iterator[str]:
    """Return the URL of a simulator that the test can change, with the client logged in."""
    with serve_storage() as url:
        log_in(url)
        yield url
