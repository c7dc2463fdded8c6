"""
Prepare derived files while the content of an output is inspected, so that the content is read once.

A download without a checksum of the server is read completely before it is published. A processor such as
``unpack`` reads the same bytes in that pass and writes its files to scratch paths. The files are published
after the output is recorded, by the call of the processor. If the processor fails, the content is inspected
as without a processor, and the later call of the processor reports the failure.

The scratch paths of a killed run are removed by the next one, which reads the content again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import BinaryIO

from bulkdl.concurrency import ReadStopped
from bulkdl.graph.scratch import PreparedOutput, ScratchFolder
from bulkdl.log import get_logger
from bulkdl.models import CommittedFile, Output
from bulkdl.processors.interfaces import CompletedOutput, ContentPreparer, Processor
from bulkdl.state.storage import Storage

log = get_logger(__name__)

_MAX_PREPARED = 64
"""If so many outputs wait for their processor, further outputs are only inspected."""

_Key = tuple[str, object]


class PreparedOutputs:
    """
    The prepared outputs of one run. Thread-safe.

    A file is found by its content: of several outputs with the same object, one is downloaded, and the
    processor can derive the files from another one.

    Attributes:
        is_open: Whether further outputs are prepared.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._preparers: list[tuple[Processor, ContentPreparer]] = []
        self._prepared: dict[_Key, PreparedOutput] = {}
        self._lock = threading.Lock()
        self.is_open = False

    def open(self, processors: Sequence[Processor]) -> None:
        """Prepare outputs for those of *processors* that support it."""
        self._preparers = [
            (processor, processor) for processor in processors if isinstance(processor, ContentPreparer)
        ]
        self.is_open = True

    def close(self) -> None:
        """Remove what no call of a processor has taken, and prepare nothing more. Blocks."""
        with self._lock:
            self.is_open = False
            left, self._prepared = list(self._prepared.values()), {}
        for prepared in left:
            prepared.scratch.remove()

    def take(self, processor: Processor, file: CommittedFile) -> PreparedOutput | None:
        """Return what *processor* prepared from the content of *file*; the caller removes it."""
        with self._lock:
            return self._prepared.pop((processor.name, _identify(file)), None)

    def inspect(
        self, stream: BinaryIO, output: Output, file: CommittedFile, check: Callable[[BinaryIO], None]
    ) -> None:
        """Prepare the output from *stream*, or call *check*; see ``ContentInspector``."""
        completed = CompletedOutput(output, file)
        if not any(self._prepare(*pair, stream, completed) for pair in self._preparers):
            stream.seek(0)
            check(stream)

    def _prepare(
        self, processor: Processor, preparer: ContentPreparer, stream: BinaryIO, completed: CompletedOutput
    ) -> bool:
        """Return whether *preparer* has read and verified the whole *stream*."""
        if not self._can_prepare(completed):
            return False
        scratch = ScratchFolder(self._storage)
        with ExitStack() as undo:
            undo.callback(scratch.remove)
            try:
                if not processor.accepts(completed):
                    return False
                stream.seek(0)
                result = preparer.prepare(stream, completed, scratch)
            except ReadStopped:
                raise
            except Exception as error:  # noqa: BLE001 - the check and the later call report the cause
                log.debug("processing.not_prepared", processor=processor.name, error=type(error).__name__)
                return False
            undo.pop_all()
        scratch.release()
        self._keep((processor.name, _identify(completed.file)), PreparedOutput(scratch, result))
        return True

    def _can_prepare(self, completed: CompletedOutput) -> bool:
        if completed.file.source is None:  # only the source identifies the content
            return False
        with self._lock:
            return self.is_open and len(self._prepared) < _MAX_PREPARED

    def _keep(self, key: _Key, prepared: PreparedOutput) -> None:
        with self._lock:
            replaced = self._prepared.pop(key, None) if self.is_open else prepared
            if self.is_open:
                self._prepared[key] = prepared
        if replaced is not None:
            replaced.scratch.remove()


def _identify(file: CommittedFile) -> object:
    return file.source, file.size_bytes, file.digest, file.validator
