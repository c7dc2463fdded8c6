"""The conformance suite of destinations for a bucket of a store."""

import asyncio
import hashlib
import os

import obstore
import pytest

from bulkdl.destinations.interfaces import CompletedFile
from bulkdl.destinations.objectstore import destination, upload
from bulkdl.destinations.objectstore.destination import create_object_store
from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.testing.destination_processes import read_all, sample_file
from bulkdl.testing.destinations import DestinationSuite

_LARGE = os.urandom(20 << 20)


class ObjectStoreSuite(DestinationSuite):
    """A subclass sets ``scheme`` and the variables of the client. The bucket is ``outputs``."""

    scheme = ""

    @pytest.fixture(autouse=True)
    def _close_at_once(self, monkeypatch):
        monkeypatch.setattr(destination, "_CLOSE_DELAY_S", 0)  # this process does not end

    def url_of(self, folder):
        return f"{self.scheme}://outputs/conformance/{hashlib.sha256(str(folder).encode()).hexdigest()[:20]}"

    def create(self, folder, options):
        return create_object_store(self.url_of(folder), options)

    def damage(self, folder, key, content):
        obstore.put(create_store(self.url_of(folder)), key, content)

    def steps(self):
        names = ("put_async", "copy_async", "delete_async")
        return [*super().steps(), *((obstore, name) for name in names)]

    def test_large_object_is_sent_in_parts(self, tmp_path):
        async def test(storage):
            path = storage.state.new_temp_path()
            path.write_bytes(_LARGE)
            await storage.destination.publish(CompletedFile(path), sample_file("a/large.tar", _LARGE))
            info = (await storage.destination.stat(["a/large.tar"]))["a/large.tar"]
            assert info.digest == sample_file("", _LARGE).digest
            assert await read_all(storage) == {"a/large.tar": _LARGE}

        self.run(tmp_path, test)

    def test_large_upload_that_is_cancelled_publishes_nothing(self, tmp_path, monkeypatch):
        async def test(storage):
            path, reading = storage.state.new_temp_path(), asyncio.Event()
            path.write_bytes(_LARGE)
            read, loop = upload._FileBlocks._read, asyncio.get_running_loop()

            def note(blocks, stop):
                loop.call_soon_threadsafe(reading.set)
                return read(blocks, stop)

            monkeypatch.setattr(upload._FileBlocks, "_read", note)
            publishing = asyncio.ensure_future(
                storage.destination.publish(CompletedFile(path), sample_file("a/large.tar", _LARGE))
            )
            await reading.wait()
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert await read_all(storage) == {}

        self.run(tmp_path, test)
