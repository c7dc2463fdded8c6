"""
The interface between bulkdl and a destination: the place where outputs are published, by key.

A key is a relative path with forward slashes. A destination stores complete objects only: a reader never
sees a part of an object, even after ``kill -9`` at any instruction. Downloads are written to a local partial
file in the state directory of the run first. The destination gets complete, verified content.

An installed distribution registers a factory under the entry point group ``bulkdl.destinations``. The name
of the entry point is the scheme of the URL, and the value is a ``DestinationFactory``. The conformance suite
in ``bulkdl.testing.destinations`` checks an implementation.

All methods can be called concurrently for different keys. A cancelled call returns within a second. It has
published the complete object or it has changed nothing. A failure raises ``DestinationError``. Its reason
decides what follows: PATH_BLOCKED fails one output, DISK_FULL and DISK_ERROR stop the run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

from bulkdl.concurrency import Executors
from bulkdl.destinations.network import UploadOptions
from bulkdl.destinations.state_objects import StateObjects
from bulkdl.disk.disk_space import DiskReservations
from bulkdl.models import CommittedFile, Digest, Durability, Validator

STATE_FOLDER = ".bulkdl"
"""The name of the default state directory in an output directory."""
LEDGER_NAME = "ledger.sqlite3"
"""The name of the ledger in a state directory."""

CanContain = Callable[[str], bool]
"""Returns whether a folder with this key can contain objects of bulkdl."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """
    Metadata of an object that a destination can read without its content.

    Attributes:
        version: Differs between two contents of a key, such as an ETag; None if the destination has none.
        digest: The checksum that was published with the object; None if the destination does not store it.
        content_id: Equal for keys that share their stored bytes, such as hard links; None if unknown.
    """

    key: str
    size_bytes: int
    version: str | None = None
    digest: Digest | None = None
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class CompletedFile:
    """
    Complete, verified content.

    Attributes:
        path: A file in the state directory, which is durable as the durability requires; None if the content
            is in memory.
        data: The content, if *path* is None.
        owner_id: The owner of the reserved disk space; see ``Destination.reserve``.
    """

    path: Path | None
    data: bytes = b""
    owner_id: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """
    The result of ``Destination.publish``.

    Attributes:
        is_moved: Whether the file of the content was moved. Otherwise the caller removes it.
    """

    info: ObjectInfo
    is_moved: bool = False


@dataclass(frozen=True, slots=True)
class DestinationOptions:
    """
    Arguments of a factory in addition to the URL.

    Attributes:
        state_folder: The state directory of the run. A destination does not list it.
        scratch_folder: An existing local folder for temporary files with names that end in ``.tmp``. They
            are removed when the next run starts.
        reservations: The reserved disk space of the file system of *scratch_folder*.
        durability: When published objects survive a power cut.
        executors: Threads for blocking calls.
        uploads: For a destination that is reached over the network.
    """

    state_folder: Path
    scratch_folder: Path
    reservations: DiskReservations
    durability: Durability
    executors: Executors
    uploads: UploadOptions = field(default_factory=UploadOptions)


class FolderStore(Protocol):
    """
    The folders of a destination whose objects are files of a local or mounted file system.

    Processors read such files without a copy, and publish complete folders.
    """

    @property
    def scratch_folder(self) -> Path:
        """
        The folder for content that processors publish. It is on the file system of the destination.

        The destination does not list it. The run creates it, and removes what killed runs left in it.
        """

    @property
    def reservations(self) -> DiskReservations:
        """The reserved disk space of the file system of the destination."""

    def locate(self, key: str) -> Path:
        """
        Return the path of *key*, which may not exist.

        Raises:
            ValueError: The key is invalid.
        """

    async def has_entry(self, key: str) -> bool:
        """Return whether *key* is the name of a file, a folder, or anything else."""

    async def publish_folder(self, path: Path, key: str) -> int:
        """
        Publish the folder *path* in ``scratch_folder`` as *key*; return the size of its files in bytes.

        An existing folder is replaced atomically if the file system can exchange names. Its files are below
        ``scratch_folder`` then, and the caller removes them. When the call returns, the files survive
        ``kill -9``. Their contents are durable, as the durability requires; ``flush`` makes the name durable.

        Raises:
            ValueError: The key is invalid.
            DestinationError: The folder was not published, for example because *key* is a file.
        """

    async def delete_folder(self, key: str, size_bytes: int) -> bool:
        """
        Delete the folder *key* atomically if its files have *size_bytes* together; if 0, it has no files.

        Returns:
            Whether the folder does not exist any more. False: it contains other files, or is not a folder.

        Raises:
            ValueError: The key is invalid.
            DestinationError: The folder cannot be deleted.
        """


class Destination(Protocol):
    """A place where outputs and derived files are published."""

    @property
    def location(self) -> str:
        """The path or the URL for messages, without credentials."""

    @property
    def folders(self) -> FolderStore | None:
        """
        The folders of the destination; None if it has none, such as an object store.

        Without folders, a processor gets a temporary copy of each output, and its derived files are written
        to the state directory and published from there. A processor that requires folders is refused.
        """

    @property
    def is_remote(self) -> bool:
        """
        Whether the destination sends a request for each key that it examines.

        A run then trusts its ledger, which contains size and version of each published object, and examines
        no recorded output. ``verify`` compares the ledger with a list of all objects.
        """

    @property
    def state_objects(self) -> StateObjects | None:
        """
        Conditional writes of small objects; None if the destination does not have them.

        With them, a run takes a lease in the destination and stores snapshots of its ledger there. A run on
        a machine without state directory continues with the newest snapshot.
        """

    async def open(self) -> None:
        """
        Check that objects can be published; create what is missing. It can be called again after ``close``.

        The run holds the lease of its state directory. It has not sent a request yet.

        Raises:
            ConfigError: The destination does not exist or cannot be written.
            DestinationError: It has no space, or it is not available.
        """

    async def close(self) -> None:
        """Release connections and threads. The methods that read may be called without ``open``."""

    async def stat(self, keys: Collection[str]) -> Mapping[str, ObjectInfo]:
        """
        Return those *keys* that exist.

        A key that cannot be examined counts as missing. Its download then fails and reports the reason.
        """

    async def publish(self, content: CompletedFile, file: CommittedFile) -> Publication:
        """
        Publish *content* under the key of *file*, and replace an existing object atomically.

        When the call returns, the object survives ``kill -9``. If the content is not moved, the object is
        also durable, as the durability requires, because the caller removes the content.

        Args:
            file: Key, size and digest of the content. A destination may store the digest with the object.

        Raises:
            ValueError: The key is invalid.
            DestinationError: The content was not published; the file of *content* is unchanged.
        """

    async def copy(self, key: str, new_key: str) -> ObjectInfo:
        """
        Publish the object *key* under *new_key* too, as a link if the destination supports links.

        Raises:
            ValueError, DestinationError: As ``publish``.
        """

    async def write_documents(self, documents: Mapping[str, bytes]) -> None:
        """
        Publish small documents by key, each of them atomically and durably.

        Raises:
            ValueError, DestinationError: As ``publish``; some of the documents may be published.
        """

    async def delete(self, keys: Collection[str]) -> None:
        """
        Delete the objects *keys*. A key that is not the name of an object is ignored.

        Raises:
            ValueError: A key is invalid.
            DestinationError: An object cannot be deleted; other objects may be deleted.
        """

    async def flush(self, keys: Collection[str]) -> None:
        """
        Make the objects *keys* durable, as the durability requires. The ledger records them after this call.

        Raises:
            DestinationError: One of them may not be durable.
        """

    def reserve(self, owner_id: str, size_bytes: int) -> None:
        """
        Reserve space for an object that will be published, in place of an earlier reservation; blocks.

        A destination without a limit does nothing.

        Raises:
            DestinationError: DISK_FULL; there is not enough space, and *owner_id* has no reservation now.
        """

    def release(self, owner_id: str) -> None:
        """Remove the reservation of *owner_id*, if it has one. Does not block."""

    def list_objects(self, can_contain: CanContain) -> AsyncGenerator[Sequence[ObjectInfo], None]:
        """
        Yield all objects in lists of bounded size, without those of the state directory.

        Args:
            can_contain: For a destination with links to folders: links to other folders are not followed.
        """

    def open_reader(self, key: str) -> AbstractContextManager[BinaryIO]:
        """
        Open the object *key* for reading, as a seekable stream; blocks, like the stream.

        Raises:
            FileNotFoundError: The object does not exist.
            NotAnObjectError: The key names something that is not an object.
            OSError, DestinationError: The object cannot be read. Reads of the stream raise them too.
        """


class BaseDestination:
    """
    A base class with the methods that many destinations do not need.

    It is for destinations without connections, limits and folders, whose objects are durable when ``publish``
    returns.
    """

    folders: ClassVar[FolderStore | None] = None
    is_remote: ClassVar[bool] = False
    state_objects: ClassVar[StateObjects | None] = None

    async def close(self) -> None:
        """Do nothing: there is no connection."""

    async def publish(self, content: CompletedFile, file: CommittedFile) -> Publication:
        """Publish *content*; see ``Destination.publish``."""
        raise NotImplementedError

    async def write_documents(self, documents: Mapping[str, bytes]) -> None:
        """Publish each document."""
        for key, data in documents.items():
            md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
            file = CommittedFile(key, len(data), Digest("md5", md5), Validator(), None)
            await self.publish(CompletedFile(None, data), file)

    async def flush(self, keys: Collection[str]) -> None:
        """Do nothing: the objects are durable."""

    def reserve(self, owner_id: str, size_bytes: int) -> None:
        """Do nothing: there is no limit."""

    def release(self, owner_id: str) -> None:
        """Do nothing: nothing is reserved."""


class NotAnObjectError(OSError):
    """A key names something that is not an object, such as a folder (EISDIR) or a device (EINVAL)."""


def check_key(key: str) -> str:
    """
    Return *key* if it is a relative path that stays below the destination.

    Raises:
        ValueError: It is not.
    """
    if not key.strip("./") or key.startswith("/") or ".." in key.split("/") or "\0" in key:
        raise ValueError(f"invalid key: {key!r} is not a relative path below the output directory")
    return key


DestinationFactory = Callable[[str, DestinationOptions], Destination]
"""Creates a destination from its URL. It must not block; ``Destination.open`` connects."""
