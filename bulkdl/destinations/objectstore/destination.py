"""
A prefix of a bucket as the destination.

Objects appear complete or not at all. Downloads stay in local partial files until their upload is verified,
so a failed upload does not cause another download.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import BinaryIO, ClassVar, TypeVar

import obstore
from obstore.store import ObjectStore

from bulkdl import __version__
from bulkdl.concurrency import run_in
from bulkdl.destinations.interfaces import (
    STATE_FOLDER,
    CanContain,
    CompletedFile,
    DestinationOptions,
    FolderStore,
    ObjectInfo,
    Publication,
    check_key,
)
from bulkdl.destinations.objectstore.calls import StoreCalls
from bulkdl.destinations.objectstore.copies import copy_by_upload
from bulkdl.destinations.objectstore.failures import STORE_ERRORS, convert_error, to_config_error
from bulkdl.destinations.objectstore.metadata import normalize_etag, parse_digest
from bulkdl.destinations.objectstore.reader import ObjectReader
from bulkdl.destinations.objectstore.state_objects import ObjectStoreState
from bulkdl.destinations.objectstore.stores import create_store
from bulkdl.destinations.objectstore.upload import RunningDigest, Uploader, end_within
from bulkdl.errors import DestinationError
from bulkdl.models import CommittedFile, Digest, Reason, Validator

T = TypeVar("T")

_PROBE_KEY = f"{STATE_FOLDER}/probe"
_LIST_KEYS = 1000
_PARALLEL_CALLS = 32
_READ_BYTES = 8 << 20
# One request copies at most this size in S3.
MAX_COPY_BYTES = 5 << 30
# A thread of the client reports its result to the interpreter after the call has returned.
_CLOSE_DELAY_S = 0.2
_TEMPORARY = {Reason.THROTTLED, Reason.SERVER_ERROR, Reason.UNREACHABLE}


class ObjectStoreDestination:
    """
    The objects of *store*, whose prefix the client adds to each key.

    Args:
        location: The URL.
    """

    folders: ClassVar[FolderStore | None] = None
    is_remote: ClassVar[bool] = True

    def __init__(self, store: ObjectStore, location: str, options: DestinationOptions) -> None:
        self.location = location
        self._store = store
        self._verification = options.uploads.verification
        self._executors = options.executors
        self._calls = StoreCalls(location, options.uploads.retry_policy)
        self._uploader = Uploader(store, options.uploads, options.executors)
        self.state_objects = ObjectStoreState(store, self._calls)

    async def open(self) -> None:
        """Check with a list and an upload that the bucket can be read and written."""
        try:
            await self._calls.repeat("list", self._list_first_page)
            await self._change(f"{_PROBE_KEY}: upload", self._put_probe)
        except DestinationError as error:
            raise to_config_error(self.location, error) from None

    async def _put_probe(self) -> None:
        data = f"bulkdl {__version__}\n".encode()
        put = obstore.put_async(self._store, _PROBE_KEY, data, use_multipart=False)
        await end_within(put, lambda: None)

    async def _list_first_page(self) -> None:
        async for _ in obstore.list(self._store, chunk_size=1):
            return

    async def close(self) -> None:
        """Wait until the threads of the client do not use the interpreter; it may end after this call."""
        if self._calls.count:
            await asyncio.sleep(_CLOSE_DELAY_S)

    async def stat(self, keys: Collection[str]) -> Mapping[str, ObjectInfo]:
        found = await self._for_each(self._stat, keys)
        return {info.key: info for info in found if info is not None}

    async def _stat(self, key: str) -> ObjectInfo | None:
        return await self._calls.repeat(f"{key}: examine", partial(self._head, key))

    async def _head(self, key: str) -> ObjectInfo | None:
        """Examine *key* with one request; raise what the store raises."""
        try:
            result = await obstore.get_async(self._store, key, options={"head": True})
        except (FileNotFoundError, ValueError):
            return None
        meta = result.meta
        digest = parse_digest(result.attributes)
        return ObjectInfo(key, meta["size"], normalize_etag(meta["e_tag"]), digest)

    async def publish(self, content: CompletedFile, file: CommittedFile) -> Publication:
        self._check_key(file.key)
        async with self._uploader.slot(file.size_bytes) as plan:

            async def upload() -> ObjectInfo:
                version = await self._uploader.send(plan, content, file)
                return await self._verify_upload(file, version)

            return Publication(await self._change(f"{file.key}: upload", upload))

    async def _change(self, action: str, call: Callable[[], Awaitable[T]]) -> T:
        async def guarded() -> T:
            self.state_objects.guard()
            return await call()

        try:
            return await self._calls.repeat(action, guarded)
        except DestinationError as error:
            if error.reason not in _TEMPORARY:
                raise
            failure = DestinationError(Reason.PUBLISH_FAILED, error.detail)
            failure.retries_exhausted = True
            raise failure from None

    async def _verify_upload(self, file: CommittedFile, version: str | None) -> ObjectInfo:
        """
        Compare the object with *file*, as far as the settings require it.

        Raises:
            DestinationError: They differ; the upload must be repeated.
        """
        expected = ObjectInfo(file.key, file.size_bytes, version, file.digest)
        if self._verification == "none":
            return expected
        info = await self._head(file.key)
        actual = (info.size_bytes, info.version) if info else None
        if actual != (file.size_bytes, version):
            raise DestinationError(
                Reason.PUBLISH_FAILED,
                f"{file.key}: size or version of the uploaded object differ: expected "
                f"{(file.size_bytes, version)}, actual {actual}",
            )
        if self._verification == "read":
            await self._compare_content(file)
        return expected

    async def _compare_content(self, file: CommittedFile) -> None:
        digest = RunningDigest(file.digest)
        for start in range(0, file.size_bytes, _READ_BYTES):
            end = min(start + _READ_BYTES, file.size_bytes)
            block = bytes(await obstore.get_range_async(self._store, file.key, start=start, end=end))
            await run_in(self._executors.disk, digest.update, block)
        if digest.value != file.digest.value:
            raise DestinationError(
                Reason.PUBLISH_FAILED,
                f"{file.key}: checksum mismatch after the upload: expected {file.digest.value}, "
                f"actual {digest.value}",
            )

    async def copy(self, key: str, new_key: str) -> ObjectInfo:
        """Publish *key* under *new_key* too, with a copy inside the store if its size allows it."""
        self._check_key(key)
        self._check_key(new_key)
        source = await self._stat(key)
        if source is None:
            raise DestinationError(Reason.PUBLISH_FAILED, f"{new_key}: {key} does not exist")
        if key == new_key:
            return source

        async def copy() -> ObjectInfo:
            if source.size_bytes > MAX_COPY_BYTES:
                async with self._uploader.slot(source.size_bytes) as plan:
                    await copy_by_upload(self._store, source, new_key, plan, self._executors)
            else:
                await end_within(obstore.copy_async(self._store, key, new_key), lambda: None)
            info = await self._head(new_key)
            if info is None or info.size_bytes != source.size_bytes:
                raise DestinationError(Reason.PUBLISH_FAILED, f"{new_key}: the size of the copy differs")
            return info

        return await self._change(f"{new_key}: copy of {key}", copy)

    async def write_documents(self, documents: Mapping[str, bytes]) -> None:
        for key in documents:
            self._check_key(key)
        await self._for_each(lambda key: self._put_bytes(key, documents[key]), documents)

    async def _put_bytes(self, key: str, data: bytes) -> None:
        digest = RunningDigest(None)
        digest.update(data)
        file = CommittedFile(key, len(data), Digest("crc32c", digest.value), Validator(), None)
        await self.publish(CompletedFile(None, data), file)

    async def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self._check_key(key)
        await self._for_each(self._delete, keys)

    async def _delete(self, key: str) -> None:
        async def delete() -> None:
            try:
                await end_within(obstore.delete_async(self._store, [key]), lambda: None)
            except FileNotFoundError:
                return

        await self._change(f"{key}: delete", delete)

    async def flush(self, keys: Collection[str]) -> None:
        """Do nothing: a published object is durable."""

    def reserve(self, owner_id: str, size_bytes: int) -> None:
        """Do nothing: the store reports a quota only when it is used up."""

    def release(self, owner_id: str) -> None:
        """Do nothing: nothing is reserved."""

    async def list_objects(self, can_contain: CanContain) -> AsyncGenerator[Sequence[ObjectInfo], None]:  # noqa: ARG002 - there are no links
        """Yield all objects without those of the state folder. A list does not contain checksums."""
        self._calls.count += 1
        pages = obstore.list(self._store, chunk_size=_LIST_KEYS)
        while True:
            try:
                page = await anext(pages, None)
            except STORE_ERRORS as error:
                raise to_config_error(self.location, convert_error(error, "list")) from None
            if page is None:
                return
            yield [
                ObjectInfo(meta["path"], meta["size"], normalize_etag(meta["e_tag"]))
                for meta in page
                if not meta["path"].startswith(f"{STATE_FOLDER}/")
            ]

    def open_reader(self, key: str) -> AbstractContextManager[BinaryIO]:
        self._calls.count += 1
        return io.BufferedReader(ObjectReader(self._store, key), 1 << 16)

    async def _for_each(self, call: Callable[[str], Awaitable[T]], keys: Collection[str]) -> list[T]:
        """Await *call* for each key, with a limited number of concurrent calls."""
        permits = asyncio.Semaphore(_PARALLEL_CALLS)

        async def limited(key: str) -> T:
            async with permits:
                return await call(key)

        if len(keys) == 1:
            return [await call(key) for key in keys]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(limited(key)) for key in keys]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    @staticmethod
    def _check_key(key: str) -> None:
        """
        Check that *key* names an object below the prefix, with the same name in the store.

        Raises:
            ValueError: It does not.
        """
        check_key(key)
        if {"", "."} & set(key.split("/")) or not key.isprintable():
            raise ValueError(f"invalid key: {key!r} is not a relative path of printable characters")


def create_object_store(url: str, options: DestinationOptions) -> ObjectStoreDestination:
    """
    Return the destination for *url*.

    Raises:
        ValueError: The URL or a variable of the provider is invalid.
        ConfigError: A file cannot be read, or the credentials need another extra.
    """
    return ObjectStoreDestination(create_store(url, options.uploads.client), url, options)
