"""A destination that stores objects in memory."""

import io
from contextlib import contextmanager

from bulkdl.destinations.interfaces import ObjectInfo, Publication


class MemoryDestination:
    """Objects by key. ``publish`` copies a file, so it does not move the content."""

    location = "memory://test"
    folders = None
    is_remote = False
    state_objects = None

    def __init__(self):
        self.objects = {}

    async def open(self):
        """Do nothing."""

    async def close(self):
        """Do nothing."""

    async def stat(self, keys):
        return {key: ObjectInfo(key, len(self.objects[key])) for key in keys if key in self.objects}

    async def publish(self, content, file):
        self.objects[file.key] = content.data if content.path is None else content.path.read_bytes()
        return Publication(ObjectInfo(file.key, len(self.objects[file.key])))

    async def copy(self, key, new_key):
        self.objects[new_key] = self.objects[key]
        return ObjectInfo(new_key, len(self.objects[key]))

    async def write_documents(self, documents):
        self.objects.update(documents)

    async def delete(self, keys):
        for key in keys:
            self.objects.pop(key, None)

    async def flush(self, keys):
        """Do nothing: the objects are as durable as they can be."""

    def reserve(self, owner_id, size_bytes):
        """Do nothing: the destination has no limit."""

    def release(self, owner_id):
        """Do nothing: the destination has no limit."""

    async def list_objects(self, can_contain):
        yield [ObjectInfo(key, len(data)) for key, data in self.objects.items()]

    @contextmanager
    def open_reader(self, key):
        if key not in self.objects:
            raise FileNotFoundError(key)
        yield io.BytesIO(self.objects[key])
