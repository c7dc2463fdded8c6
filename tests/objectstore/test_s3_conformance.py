"""The conformance suite of destinations, passed by SeaweedFS."""

import hashlib

import obstore
import pytest

from bulkdl.destinations.objectstore import destination
from bulkdl.destinations.objectstore.destination import create_object_store
from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.testing.destinations import DestinationSuite


def url_of(folder):
    return f"s3://outputs/conformance/{hashlib.sha256(str(folder).encode()).hexdigest()[:20]}"


@pytest.mark.usefixtures("store_env")
class TestS3(DestinationSuite):
    @pytest.fixture(autouse=True)
    def _close_at_once(self, monkeypatch):
        monkeypatch.setattr(destination, "_CLOSE_DELAY_S", 0)  # this process does not end

    def create(self, folder, options):
        return create_object_store(url_of(folder), options)

    def damage(self, folder, key, content):
        obstore.put(create_store(url_of(folder)), key, content)

    def steps(self):
        names = ("put_async", "copy_async", "delete_async")
        return [*super().steps(), *((obstore, name) for name in names)]
