"""The conformance suite of destinations, passed by SeaweedFS."""

import pytest

from support.store_conformance import ObjectStoreSuite


@pytest.mark.usefixtures("store_env")
class TestS3(ObjectStoreSuite):
    scheme = "s3"
