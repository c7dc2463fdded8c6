"""The conformance suite, passed by an object store in memory through the client of all stores."""

import obstore
import pytest
from obstore.store import MemoryStore

from bulkdl.destinations.objectstore import destination
from bulkdl.destinations.objectstore.destination import ObjectStoreDestination
from bulkdl.testing.destinations import DestinationSuite


class TestObjectStoreInMemory(DestinationSuite):
    @pytest.fixture(autouse=True)
    def _close_at_once(self, monkeypatch):
        monkeypatch.setattr(destination, "_CLOSE_DELAY_S", 0)  # this process does not end

    def create(self, folder, options):
        stores = self.__dict__.setdefault("stores", {})
        store = stores.setdefault(folder, MemoryStore())
        return ObjectStoreDestination(store, f"memory://{folder}", options)

    def damage(self, folder, key, content):
        obstore.put(self.__dict__["stores"][folder], key, content)

    def steps(self):
        names = ("put_async", "copy_async", "delete_async")
        return [*super().steps(), *((obstore, name) for name in names)]
