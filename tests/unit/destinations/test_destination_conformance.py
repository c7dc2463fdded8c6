"""The conformance suite, passed by the local destination and by a destination in memory."""

import io
import os
from contextlib import contextmanager

import pytest

from bulkdl.destinations.interfaces import ObjectInfo, Publication
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.disk import atomic_files
from bulkdl.models import Durability
from bulkdl.testing.destinations import DestinationSuite


class LocalSuite(DestinationSuite):
    def create(self, folder, options):
        return LocalDestination(folder, options)

    def damage(self, folder, key, content):
        (folder / key).write_bytes(content)

    def check_clean(self, folder):
        assert [path.name for path in folder.rglob("*.tmp")] == []


class TestLocal(LocalSuite):
    pass


class TestLocalWithoutSync(LocalSuite):
    durability = Durability.NONE


class TestLocalWithoutLinks(LocalSuite):
    @pytest.fixture(autouse=True)
    def _without_links(self, monkeypatch):
        def deny(*_, **__):
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", deny)

    def steps(self):
        return [*super().steps(), (LocalDestination, "_count_copied")]


class TestLocalOnTwoDisks(LocalSuite):
    @pytest.fixture(autouse=True)
    def _second_disk(self, other_file_system):
        self.disk = other_file_system

    def state_folder(self, folder):
        return self.disk / folder.relative_to(folder.anchor) / "state"

    def steps(self):
        return [*super().steps(), (LocalDestination, "_count_copied"), (atomic_files, "copy_file")]


STORES = {}


class MemoryDestination:
    """A store in memory. It keeps the digest of each object, as object stores can."""

    folders = None
    is_remote = False
    state_objects = None

    def __init__(self, url):
        self.location = url
        self._objects = STORES.setdefault(url, {})

    async def open(self):
        pass

    async def close(self):
        pass

    @staticmethod
    def _check_key(key):
        if not key.strip("./") or key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise ValueError(f"invalid key: {key!r}")

    def _put(self, key, content, digest):
        self._check_key(key)
        self._objects[key] = (content, digest, object())

    def _info(self, key):
        content, digest, version = self._objects[key]
        return ObjectInfo(key, len(content), str(id(version)), digest)

    async def stat(self, keys):
        return {key: self._info(key) for key in keys if key in self._objects}

    async def publish(self, content, file):
        self._put(file.key, content.path.read_bytes() if content.path else content.data, file.digest)
        return Publication(self._info(file.key))

    async def copy(self, key, new_key):
        content, digest, _ = self._objects[key]
        self._put(new_key, content, digest)
        return self._info(new_key)

    async def write_documents(self, documents):
        for key, content in documents.items():
            self._put(key, content, None)

    def _remove(self, key):
        self._check_key(key)
        self._objects.pop(key, None)

    async def delete(self, keys):
        for key in keys:
            self._remove(key)

    async def flush(self, keys):
        pass

    def reserve(self, owner_id, size_bytes):
        pass

    def release(self, owner_id):
        pass

    async def list_objects(self, can_contain):
        keys = sorted(self._objects)
        for start in range(0, len(keys), 1000):
            yield [self._info(key) for key in keys[start : start + 1000]]

    @contextmanager
    def open_reader(self, key):
        if key not in self._objects:
            raise FileNotFoundError(key)
        yield io.BytesIO(self._objects[key][0])


class TestMemory(DestinationSuite):
    def create(self, folder, options):
        return MemoryDestination(f"memory://{folder}")

    def damage(self, folder, key, content):
        STORES[f"memory://{folder}"][key] = (content, None, object())

    def steps(self):
        return [*super().steps(), (MemoryDestination, "_put"), (MemoryDestination, "_remove")]
