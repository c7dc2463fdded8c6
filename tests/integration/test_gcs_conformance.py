"""The conformance suite of destinations with the client of GCS and a fake. It is not checked against GCS."""

import pytest

from support.gcs_fake import run_gcs_fake
from support.store_conformance import ObjectStoreSuite


@pytest.fixture(scope="module")
def gcs():
    with run_gcs_fake() as fake:
        yield fake


class TestGcs(ObjectStoreSuite):
    scheme = "gs"

    @pytest.fixture(autouse=True)
    def _use_fake(self, gcs, monkeypatch):
        for name, value in gcs.env().items():
            monkeypatch.setenv(name, value)
        yield
        assert gcs.uploads == {}
