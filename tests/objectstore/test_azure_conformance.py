"""The conformance suite of destinations, passed by Azurite."""

import pytest

from support.store_conformance import ObjectStoreSuite


@pytest.mark.usefixtures("azure_env")
class TestAzure(ObjectStoreSuite):
    scheme = "az"
