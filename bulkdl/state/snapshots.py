"""
Store snapshots of the ledger in a remote destination, and restore them on another machine.

A snapshot is an object that never changes. A small pointer object names the newest one. It is replaced by a
conditional write, so only one of two concurrent runs can publish. The generation counts the snapshots. The
ledger records the generation that it contains, so an older ledger cannot replace a newer snapshot.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

from bulkdl.destinations.interfaces import CompletedFile, Destination
from bulkdl.destinations.state_objects import StateObject, StateObjects, WriteConflictError
from bulkdl.errors import ConfigError, DestinationError, LedgerDamagedError, LedgerVersionError
from bulkdl.ledger import snapshot
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.lease import Owner
from bulkdl.ledger.migrations import VERSION
from bulkdl.ledger.snapshot import SnapshotRow
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Digest, Validator
from bulkdl.os_errors import map_os_errors, reason_of
from bulkdl.state.bucket_lease import LeaseLostError
from bulkdl.transfer.checksums import Digester

log = get_logger(__name__)

POINTER_NAME = "snapshot.json"
_NAME = re.compile(r"ledger-(\d{8,})-[0-9a-f]{16}\.sqlite3\.gz")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Pointer:
    """
    The content of the pointer object.

    Attributes:
        size_bytes: Of the object *key*, like *crc32c* (base64).
        ledger_bytes: Size of the ledger after decompression.
        ledger_version: The version of the ledger.
        previous_key: The snapshot before this one, which is kept.
    """

    ledger_id: str
    generation: int
    key: str
    size_bytes: int
    crc32c: str
    ledger_bytes: int
    ledger_version: int
    run_id: str
    previous_key: str | None
    nonce: str

    def encode(self) -> bytes:
        return json.dumps({"format": 1, **asdict(self)}).encode()


def parse_pointer(data: bytes, location: str, key: str) -> Pointer:
    """
    Return the pointer.

    Raises:
        LedgerDamagedError: It is invalid.
    """
    try:
        document = json.loads(data)
        previous = document.get("previous_key")
        pointer: Pointer | None = Pointer(
            ledger_id=str(document["ledger_id"]),
            generation=int(document["generation"]),
            key=str(document["key"]),
            size_bytes=int(document["size_bytes"]),
            crc32c=str(document["crc32c"]),
            ledger_bytes=int(document["ledger_bytes"]),
            ledger_version=int(document["ledger_version"]),
            run_id=str(document["run_id"]),
            previous_key=None if previous is None else str(previous),
            nonce=str(document["nonce"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        pointer = None
    if pointer is None or pointer.generation < 1 or min(pointer.size_bytes, pointer.ledger_bytes) < 0:
        raise LedgerDamagedError(f"{location}: invalid pointer to the state snapshot in {key}; {_ADVICE}")
    return pointer


_ADVICE = (
    "recreate the state from the objects with an empty --state directory and bulkdl verify --rebuild, which "
    "replaces the snapshot"
)


class Snapshots:
    """
    The snapshots of one ledger in a destination.

    Args:
        prefix: The folder of the state objects with its slash.
        temp_folder: An existing folder for temporary files.
    """

    def __init__(
        self, destination: Destination, objects: StateObjects, prefix: str, temp_folder: Path
    ) -> None:
        self._destination = destination
        self._objects = objects
        self._prefix = prefix
        self._temp_folder = temp_folder
        self._pointer_key = prefix + POINTER_NAME
        self._found: StateObject | None = None
        self._pointer: Pointer | None = None
        self._unknown: Pointer | None = None  # its publication may have succeeded

    async def find(self) -> Pointer | None:
        """
        Read the pointer; None if the destination has no snapshot.

        Raises:
            LedgerDamagedError: It is invalid.
            DestinationError: It cannot be read.
        """
        self._found = await self._objects.read(self._pointer_key)
        location = self._destination.location
        self._pointer = (
            None if self._found is None else parse_pointer(self._found.data, location, self._pointer_key)
        )
        return self._pointer

    async def replace(self) -> None:
        """Ignore what the destination contains: the next publication replaces it, even if it is damaged."""
        try:
            await self.find()
        except LedgerDamagedError as error:
            log.warning("snapshot.ignored", detail=str(error))

    async def load(self, ledger: Ledger, owner: Owner) -> bool:
        """
        Replace the content of *ledger* with the newest snapshot, unless it is as new as the snapshot.

        Returns:
            Whether the content was replaced. The former content is kept in a file next to the ledger.

        Raises:
            ConfigError: The snapshot is older, or of another ledger.
            LedgerDamagedError: The snapshot is damaged.
            LedgerVersionError: A newer bulkdl wrote it.
            DestinationError: It cannot be read, or the disk is full.
        """
        pointer = await self.find()
        row = await ledger.read(snapshot.read_row)
        if pointer is None:
            if row is not None and row.generation:
                log.warning("snapshot.missing", generation=row.generation)
            return False
        if row is not None and pointer.key in (row.key, row.pending_key):
            await ledger.write(partial(snapshot.write_row, row=_row_of(pointer)), is_heartbeat=True)
            return False
        self._check_order(pointer, row)
        if await ledger.read(snapshot.has_content):
            await self._keep_former(ledger, row)
        path = await self.download(pointer, self._temp_folder)
        try:
            await asyncio.to_thread(snapshot.set_owner, path, owner)
            await ledger.replace_content(path)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        log.info("snapshot.restored", generation=pointer.generation, run=pointer.run_id)
        return True

    def _check_order(self, pointer: Pointer, row: SnapshotRow | None) -> None:
        """
        Check that *pointer* is newer than the ledger with *row*.

        Raises:
            ConfigError: It is older, or of another ledger.
        """
        if row is None or not row.generation:
            return
        where = f"--output {self._destination.location}"
        if pointer.ledger_id != row.ledger_id:
            raise ConfigError(
                where,
                f"the state snapshot belongs to another ledger than the state directory: expected ledger "
                f"{row.ledger_id}, actual {pointer.ledger_id}; choose the state directory of this "
                "destination, or an empty one with --state",
            )
        if pointer.generation <= row.generation:
            raise ConfigError(
                where,
                f"the state snapshot is not newer than the state directory: expected a generation after "
                f"{row.generation}, actual {pointer.generation}; the bucket was changed by another program; "
                f"to publish the state directory, delete {self._pointer_key}; to use the snapshot, choose an "
                "empty directory with --state",
            )

    async def _keep_former(self, ledger: Ledger, row: SnapshotRow | None) -> None:
        generation = row.generation if row else 0
        path = ledger.path.with_name(f"{ledger.path.name}.stale-{generation}")

        def copy() -> None:
            with map_os_errors(path):
                path.unlink(missing_ok=True)
            snapshot.copy_ledger(ledger.path, path)

        await asyncio.to_thread(copy)
        log.warning("snapshot.state_is_older", generation=generation, former=str(path))

    async def download(self, pointer: Pointer, folder: Path) -> Path:
        """
        Download the snapshot to *folder*, and return the path of a verified ledger, which the caller removes.

        Raises:
            LedgerDamagedError: The snapshot is missing or damaged.
            LedgerVersionError: A newer bulkdl wrote it.
            DestinationError: It cannot be read, or the disk is full.
        """
        if pointer.ledger_version > VERSION:
            raise LedgerVersionError(
                f"{self._destination.location} ({pointer.key})", pointer.ledger_version, VERSION
            )
        packed, path = _new_path(folder), _new_path(folder)
        try:
            await asyncio.to_thread(self._read_object, pointer, packed)
            await asyncio.to_thread(snapshot.unpack, packed, path, pointer.ledger_bytes)
        except LedgerDamagedError as error:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise LedgerDamagedError(
                f"{self._destination.location}: the state snapshot {pointer.key} (generation "
                f"{pointer.generation}) is damaged: {error}; {_ADVICE}"
            ) from None
        except BaseException:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise
        finally:
            await asyncio.to_thread(packed.unlink, missing_ok=True)
        return path

    def _read_object(self, pointer: Pointer, target: Path) -> None:
        """Copy the object to *target* and verify size and checksum; blocks."""
        digester = Digester()
        try:
            with self._destination.open_reader(pointer.key) as source, target.open("wb") as stream:
                while digester.at_bytes <= pointer.size_bytes and (block := source.read(_BLOCK_BYTES)):
                    digester.update(block)
                    stream.write(block)
        except FileNotFoundError:
            raise LedgerDamagedError("the object does not exist") from None
        except OSError as error:
            raise DestinationError(reason_of(error), f"{pointer.key}: {error.strerror or error}") from None
        if digester.at_bytes != pointer.size_bytes:
            raise LedgerDamagedError(
                f"unexpected size: expected {pointer.size_bytes} bytes, actual {digester.at_bytes}"
            )
        actual = digester.crc32c.value
        if actual != pointer.crc32c:
            raise LedgerDamagedError(f"checksum mismatch: expected {pointer.crc32c}, actual {actual}")

    async def publish(self, ledger: Ledger, run_id: str, check_lease: Callable[[], None]) -> None:
        """
        Publish a snapshot of *ledger*, and delete all snapshots but this one and the one before it.

        Args:
            check_lease: Called before the pointer is written; raises an error if the lease is lost.

        Raises:
            LeaseLostError: Another run has published a snapshot.
            DestinationError: The snapshot was not published.
        """
        await self._resolve_unknown()
        former = self._pointer
        row = await ledger.read(snapshot.read_row)
        generation = max(former.generation if former else 0, row.generation if row else 0) + 1
        ledger_id = former.ledger_id if former else row.ledger_id if row else secrets.token_hex(8)
        key = f"{self._prefix}ledger-{generation:08}-{secrets.token_hex(8)}.sqlite3.gz"
        row = row if row and row.ledger_id == ledger_id else SnapshotRow(ledger_id)
        await ledger.write(partial(snapshot.write_row, row=row.with_pending(key)), is_heartbeat=True)
        packed, file = await self._upload(ledger, SnapshotRow(ledger_id, generation, key))
        pointer = Pointer(
            ledger_id,
            generation,
            key,
            file.size_bytes,
            file.digest.value,
            packed.ledger_bytes,
            VERSION,
            run_id,
            former.key if former else None,
            secrets.token_hex(8),
        )
        check_lease()
        await self._write_pointer(pointer)
        await ledger.write(partial(snapshot.write_row, row=_row_of(pointer)), is_heartbeat=True)
        log.info("snapshot.published", generation=generation, size_bytes=file.size_bytes)
        await self._delete_older(pointer)

    async def _upload(self, ledger: Ledger, row: SnapshotRow) -> tuple[snapshot.PackedLedger, CommittedFile]:
        path, copy_path = _new_path(self._temp_folder), _new_path(self._temp_folder)
        try:
            packed = await asyncio.to_thread(snapshot.pack, ledger.path, path, copy_path, row)
            digest = await asyncio.to_thread(_compute_digest, path, packed.size_bytes)
            file = CommittedFile(cast("str", row.key), packed.size_bytes, digest, Validator(), None)
            await self._destination.publish(CompletedFile(path), file)
            return packed, file
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _resolve_unknown(self) -> None:
        """Find out whether the last write of the pointer, which failed, has succeeded."""
        if self._unknown is None:
            return
        found = await self._objects.read(self._pointer_key)
        if found is not None and found.data == self._unknown.encode():
            self._found, self._pointer = found, self._unknown
        self._unknown = None

    async def _write_pointer(self, pointer: Pointer) -> None:
        self._unknown = pointer
        try:
            self._found = await self._objects.write(self._pointer_key, pointer.encode(), self._found)
        except WriteConflictError:
            raise LeaseLostError(
                f"{self._destination.location}: another run has published a state snapshot; the state of "
                "this run is kept in its state directory only"
            ) from None
        self._pointer, self._unknown = pointer, None

    async def _delete_older(self, pointer: Pointer) -> None:
        """Delete older snapshots. A failure is logged: the next publication deletes them."""
        kept = {pointer.key, pointer.previous_key}
        try:
            keys = await self._objects.list_keys(self._prefix)
            older = [key for key in keys if key not in kept and self._is_older(key, pointer.generation)]
            if older:
                await self._destination.delete(older)
        except DestinationError as error:
            log.warning("snapshot.cleanup_failed", reason=error.reason.value, detail=error.detail)

    def _is_older(self, key: str, generation: int) -> bool:
        """Return whether *key* is a snapshot of *generation* or before; a killed run can have left it."""
        match = _NAME.fullmatch(key.removeprefix(self._prefix))
        return match is not None and int(match[1]) <= generation


def _new_path(folder: Path) -> Path:
    return folder / f"new-{secrets.token_hex(8)}.tmp"


def _row_of(pointer: Pointer) -> SnapshotRow:
    return SnapshotRow(pointer.ledger_id, pointer.generation, pointer.key)


def _compute_digest(path: Path, size_bytes: int) -> Digest:
    digester = Digester()
    with map_os_errors(path), path.open("rb") as stream:
        digester.read(stream, size_bytes)
    return digester.crc32c
