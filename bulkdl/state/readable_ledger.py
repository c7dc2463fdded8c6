"""
Open a ledger for reading: the one in the state directory, or the snapshot in the destination.

A command that only reads takes no lease and does not change the state directory. Therefore the snapshot is
unpacked in a temporary folder.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bulkdl.errors import LedgerMissingError
from bulkdl.ledger import snapshot
from bulkdl.ledger.database import Ledger
from bulkdl.state.storage import Storage


async def require_ledger(storage: Storage) -> None:
    """
    Check that a run has recorded something in the state directory or in the destination.

    Raises:
        LedgerMissingError: Neither has a ledger.
        LedgerError, DestinationError: The snapshot cannot be read.
    """
    if await asyncio.to_thread(storage.state.ledger_path.is_file):
        return
    if storage.shared_state is None or await storage.shared_state.find_snapshot() is None:
        raise LedgerMissingError(storage.state.setting)


@asynccontextmanager
async def open_readable_ledger(storage: Storage) -> AsyncIterator[Ledger | None]:
    """
    Yield the ledger of the state directory, or a copy of the snapshot if the directory has none; else None.

    Raises:
        ConfigError: The state directory belongs to another destination.
        LedgerError: The ledger or the snapshot cannot be used.
        DestinationError: They cannot be read.
    """
    await asyncio.to_thread(storage.state.check_destination)
    path = storage.state.ledger_path
    ledger = await Ledger.open(path, read_only=True) if await asyncio.to_thread(path.is_file) else None
    try:
        if ledger is not None and (storage.shared_state is None or await ledger.read(snapshot.has_content)):
            yield ledger
            return
        async with _open_snapshot(storage) as copy:
            yield copy or ledger
    finally:
        if ledger is not None:
            await ledger.close()


@asynccontextmanager
async def _open_snapshot(storage: Storage) -> AsyncIterator[Ledger | None]:
    shared = storage.shared_state
    pointer = None if shared is None else await shared.find_snapshot()
    if shared is None or pointer is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="bulkdl-") as folder:
        path = await shared.download_snapshot(pointer, Path(folder))
        ledger = await Ledger.open(path, read_only=True)
        try:
            yield ledger
        finally:
            await ledger.close()


async def download_snapshots(storage: Storage, folder: Path) -> dict[str, Path]:
    """
    Download the snapshots of all shards of the destination to *folder*; return their paths by shard.

    Raises:
        LedgerError: A snapshot is damaged, or a newer bulkdl wrote it.
        DestinationError: A snapshot cannot be read, or the disk is full.
    """
    shared = storage.shared_state
    if shared is None:
        return {}
    found = {}
    for name, part in (await shared.all_shards()).items():
        pointer = await part.find_snapshot()
        if pointer is not None:
            found[name] = await part.download_snapshot(pointer, folder)
    return found
