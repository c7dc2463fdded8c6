"""Fixtures of the tests that compare an official client with bulkdl. Importing them imports the client."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from support.peer_storage import (
    ExpectedStorage,
    download_with_bulkdl,
    import_client,
    log_in,
    read_expected_storage,
    serve_storage,
)

import_client()
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


@pytest.fixture(scope="session")
def expected() -> ExpectedStorage:
    return read_expected_storage()


@pytest.fixture(scope="session")
def shared_url() -> Iterator[str]:
    with serve_storage() as url:
        yield url


@pytest.fixture(scope="session")
def bulkdl_files(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """Return the SHA-256 of the files that ``bulkdl run`` downloads from the shared simulator."""
    return download_with_bulkdl(shared_url, tmp_path_factory.mktemp("bulkdl"))


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
