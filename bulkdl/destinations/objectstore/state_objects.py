"""
Small objects with conditional writes, which the leases and the snapshots of several machines use.

A retry in the client, or a lost response, can make a successful write look like a conflict. Therefore an
object is read after each failed write, and its data is compared with the data that was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import obstore
from obstore.store import ObjectStore

from bulkdl.destinations.objectstore.calls import StoreCalls
from bulkdl.destinations.objectstore.failures import STORE_ERRORS
from bulkdl.destinations.state_objects import StateObject, WriteConflictError
from bulkdl.errors import DestinationError
from bulkdl.models import Reason

_ATTRIBUTES = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_MAX_BYTES = 1 << 20
_LIST_KEYS = 1000


class ObjectStoreState:
    """
    The state objects of *store*.

    Attributes:
        guard: Called before each change of the destination.
    """

    def __init__(self, store: ObjectStore, calls: StoreCalls) -> None:
        self._store = store
        self._calls = calls
        self.guard: Callable[[], None] = _accept

    def set_guard(self, guard: Callable[[], None]) -> None:
        self.guard = guard

    async def read(self, key: str) -> StateObject | None:
        return await self._calls.repeat(f"{key}: read", partial(self._get, key))

    async def _get(self, key: str) -> StateObject | None:
        try:
            result = await obstore.get_async(self._store, key)
            if result.meta["size"] > _MAX_BYTES:
                raise DestinationError(
                    Reason.STORE_DENIED,
                    f"{key}: unexpected size: expected at most {_MAX_BYTES} bytes, actual "
                    f"{result.meta['size']}; remove the object if bulkdl did not write it",
                )
            return StateObject(bytes(await result.bytes_async()), _version_of(result.meta))
        except FileNotFoundError:
            return None

    async def write(self, key: str, data: bytes, expected: StateObject | None) -> StateObject:
        return await self._calls.repeat(f"{key}: write", partial(self._put, key, data, expected))

    async def _put(self, key: str, data: bytes, expected: StateObject | None) -> StateObject:
        mode: Any = "create" if expected is None else dict(expected.version)
        try:
            result = await obstore.put_async(
                self._store, key, data, mode=mode, use_multipart=False, attributes=_ATTRIBUTES
            )
        except STORE_ERRORS:
            current = await self._get(key)
            if current is not None and current.data == data:
                return current
            if _data_of(current) != _data_of(expected):
                raise WriteConflictError(key) from None
            raise  # the object is unchanged: the write can be repeated
        return StateObject(data, _version_of(result))

    async def list_keys(self, prefix: str) -> list[str]:
        async def read_list() -> list[str]:
            pages = obstore.list(self._store, prefix.rstrip("/"), chunk_size=_LIST_KEYS)
            return [meta["path"] async for page in pages for meta in page if meta["path"].startswith(prefix)]

        return await self._calls.repeat(f"{prefix}: list", read_list)


def _accept() -> None:
    """Accept each change: there is no lease."""


def _data_of(item: StateObject | None) -> bytes | None:
    return None if item is None else item.data


def _version_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return what a conditional write compares. The client rejects None as a value."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}
