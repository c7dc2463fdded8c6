"""
The interface between bulkdl and a processor: a step on completed outputs, such as unpacking.

A processor is a class with the methods of ``Processor``. ``BaseProcessor`` has defaults for most of them.
An installed distribution registers a factory under the entry point group ``bulkdl.processors``. The
setting ``processors`` enables it.

The stage of a run calls ``process`` for each completed output that the processor accepts, after the output
is recorded in the ledger. At the end of the run it calls ``finish`` once. The ledger records the derived
files. An output without a current record is processed again by the next run, so a processor must be
idempotent: a call may repeat an earlier call that was killed at any instruction.

The methods of one processor run concurrently for different outputs. A failure affects one output.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar, runtime_checkable

from bulkdl.models import CommittedFile, Digest, Output, Reason

P = ParamSpec("P")
T = TypeVar("T")


class ProcessingSkipped(Exception):
    """
    Raised by ``Processor.process``: there is nothing to derive from this output.

    The output is recorded as skipped and is not processed again by the same version.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class CompletedOutput:
    """An output whose *file* is committed, verified and recorded."""

    output: Output
    file: CommittedFile


@dataclass(frozen=True, slots=True)
class RecordedOutput:
    """
    An output as the ledger records it, in any state.

    Attributes:
        state: ``planned`` or the outcome of the last download: ``completed``, ``skipped``, ``failed``,
            ``cancelled``.
        reason: The reason of the outcome; None for a planned output.
        detail: One line for the user; empty for most outputs.
        file: The file that was committed last; None without one.
    """

    output: Output
    state: str
    reason: Reason | None
    detail: str
    file: CommittedFile | None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """
    The content of an output as a local file. A processor must not change it.

    For a destination with folders it is the file of the output itself, otherwise a temporary copy, which is
    removed after the call.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """
    A file, or a folder with files, that a processor published.

    Attributes:
        key: The relative path in the destination, with forward slashes.
        size_bytes: The size of the file, or of the files in the folder that are not returned separately.
        digest: The checksum of the file; None for a folder.
        detail: One line for the user, without secrets.
    """

    key: str
    size_bytes: int
    digest: Digest | None = None
    detail: str = ""


class PreparationArea(Protocol):
    """The place where one call of ``ContentPreparer.prepare`` writes. All methods block."""

    def new_path(self) -> Path:
        """Return an unused scratch path, for a file or a folder."""

    def reserve(self, size_bytes: int) -> None:
        """
        Reserve disk space; see ``OutputArea.reserve``.

        Raises:
            DestinationError: DISK_FULL; there is not enough space.
        """

    def consume(self, size_bytes: int) -> None:
        """Reduce the reservation by bytes that are on disk now."""


@runtime_checkable
class ContentPreparer(Protocol):
    """
    Optional methods of a processor that must read the whole content, such as an unpacker.

    A download without a checksum of the server is read completely before it is published. The processor can
    do its work in the same pass, so that the content is read once.
    """

    def prepare(self, stream: BinaryIO, completed: CompletedOutput, area: PreparationArea) -> object:
        """
        Derive files from the content *stream* of *completed*, which is not published yet. Blocks.

        The call must verify the content as thoroughly as the check of its kind, to its last byte. A call that
        returns replaces this check. After any exception, the content is checked without the processor. When
        the run is stopped, the next read of *stream* raises ``ReadStopped``.

        Returns:
            The value of ``OutputArea.prepared`` for the later call of ``process``, which publishes the files.
            That call may be missing, for example because the content was not published.
        """


class OutputArea(Protocol):
    """
    The place where one call of a processor writes its derived files.

    Nothing is visible in the destination before it is complete: content is written to a scratch path first
    and then published. Scratch paths and reservations end with the call, even after ``kill -9``.

    A key must be a relative path below the destination. It must not be inside the state directory, and must
    not replace the file of an output or a document of the source.
    """

    @property
    def prepared(self) -> object:
        """What ``ContentPreparer.prepare`` returned for the same content in this run; None without a call."""

    @property
    def state_folder(self) -> Path:
        """Existing local folder for the records of this processor, such as manifests. It is kept."""

    def new_path(self) -> Path:
        """Return an unused scratch path, for a file or a folder."""

    async def write(self, key: str, data: bytes) -> DerivedFile:
        """
        Publish a small file with the content *data*.

        Raises:
            ProcessingError: *key* is invalid.
            DestinationError: The file cannot be written, or *key* belongs to an output.
        """

    async def publish(self, path: Path, key: str) -> DerivedFile:
        """
        Publish the file at the scratch path *path* as *key*; replace a derived file of an earlier call.

        Raises:
            ProcessingError, DestinationError: As ``write``.
        """

    async def publish_folder(self, path: Path, key: str, *, replace: bool = False) -> DerivedFile:
        """
        Publish the folder at the scratch path *path* as *key*.

        A folder that the ledger records as derived from the same output is replaced.

        Args:
            replace: Also replace a folder that is not recorded, for example because a run was killed before
                it recorded the folder.

        Raises:
            ProcessingError: *key* is invalid.
            DestinationError: The folder cannot be written, exists and is not recorded, or contains the file
                of an output.
        """

    def reserve(self, size_bytes: int) -> None:
        """
        Reserve disk space for *size_bytes* that the call will still write. Thread-safe.

        The reservation replaces an earlier one of the same call.

        Raises:
            DestinationError: DISK_FULL; there is not enough space.
        """

    def consume(self, size_bytes: int) -> None:
        """Reduce the reservation by bytes that are on disk now. Thread-safe."""

    async def run(
        self, call: Callable[Concatenate[threading.Event, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """
        Await ``call(stop, *args)`` in a thread of the processors. Use it for all work that blocks.

        When the run is stopped, *stop* is set. *call* must check it often and end within a second:
        ``bulkdl.concurrency.check_stop`` and ``open_stoppable`` do so.
        """


class FinishedRun(Protocol):
    """The content of the ledger at the end of a run, for ``Processor.finish``."""

    @property
    def run_id(self) -> str:
        """The run that has ended."""

    def outputs(self) -> AsyncIterator[RecordedOutput]:
        """Yield all outputs of the ledger, in the order of the ledger."""

    def derived_files(self, processor: str) -> AsyncIterator[tuple[Output, DerivedFile]]:
        """Yield the files that *processor* derived from outputs, with their outputs."""

    def open_file(self, completed: CompletedOutput) -> AbstractAsyncContextManager[LocalFile]:
        """Give access to the file of an output inside the block."""


class Processor(Protocol):
    """A step on completed outputs."""

    @property
    def name(self) -> str:
        """The name in settings, ledger and reports: lower-case letters, digits, ``-`` and ``_``."""

    @property
    def version(self) -> int:
        """The version of the results, from 1. Results of another version are stale and are derived again."""

    @property
    def requires_folders(self) -> bool:
        """Whether the destination must have folders, for example because the processor publishes folders."""

    async def open(self) -> None:
        """Prepare for calls of the other methods. Called once, before the first output."""

    async def close(self) -> None:
        """Release everything that ``open`` acquired. Called once, even after a failure."""

    def accepts(self, record: CompletedOutput) -> bool:
        """Return whether ``process`` is called for *record*. Must be fast and must not block."""

    async def process(
        self, file: LocalFile, record: CompletedOutput, area: OutputArea
    ) -> Sequence[DerivedFile]:
        """
        Derive files from one output, and publish them with *area*.

        Returns:
            All derived files of this output, including those that an earlier call has already published.

        Raises:
            ProcessingSkipped: There is nothing to derive.
            ProcessingError: The output cannot be processed, for example because its content is damaged.
            DestinationError: A derived file cannot be written.
        """

    async def finish(self, run: FinishedRun, area: OutputArea) -> Sequence[DerivedFile]:
        """
        Derive files from all outputs together, such as a catalogue. Called at the end of a complete run.

        Returns:
            All derived files of this step.

        Raises:
            ProcessingError, DestinationError: As ``process``.
        """


class BaseProcessor:
    """Defaults for a processor that accepts every output and has no step at the end of a run."""

    requires_folders: ClassVar[bool] = False

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def accepts(self, record: CompletedOutput) -> bool:
        """Accept every output."""
        del record
        return True

    async def finish(self, run: FinishedRun, area: OutputArea) -> Sequence[DerivedFile]:
        """Derive nothing from all outputs together."""
        del run, area
        return ()
