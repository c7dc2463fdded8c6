"""A real output directory with a ledger, for the conformance suites."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from bulkdl.concurrency import Executors
from bulkdl.destinations.interfaces import STATE_FOLDER
from bulkdl.destinations.registry import require_folders
from bulkdl.ledger import derived_queries, queries
from bulkdl.ledger.database import Ledger
from bulkdl.ledger.derived_queries import PendingOutput
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import (
    CommittedFile,
    Container,
    ContainerRef,
    Durability,
    Outcome,
    Output,
    Reason,
    Result,
    Validator,
)
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.state.storage import Storage, create_storage
from bulkdl.transfer.checksums import Digester

_CREATED_AT = datetime(2024, 1, 31, tzinfo=UTC)


class SampleDirectory:
    """An output directory whose outputs a suite completes without a download."""

    def __init__(self, root: Path, storage: Storage, ledger: Ledger, executors: Executors) -> None:
        self.folders = require_folders(storage.destination, "a sample directory needs folders")
        self.root = root
        self.storage = storage
        self.ledger = ledger
        self.executors = executors
        self.documents = PathMatcher(())
        self._output_keys: set[str] = set()

    async def read_output_keys(self) -> None:
        """Read the keys of the outputs that an earlier process completed."""
        rows = await self.ledger.read(partial(derived_queries.list_outputs_after, row_id=0))
        self._output_keys |= {record.file.key for _, record, _ in rows if record.file is not None}

    async def complete(self, kind: str, key: str, content: bytes, name: str = "") -> Result:
        """Write *content* as the file *key*, and record it as the completed output of its own container."""
        digester = Digester()
        digester.update(content)
        file = CommittedFile(key, len(content), digester.crc32c, Validator(), None)
        path = self.folders.locate(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._output_keys.add(key)
        ref = ContainerRef("sample", "scope", f"container-{zlib.crc32(key.encode()):08x}")
        container = Container(ref, "SUCCEEDED", is_final=True, revision="1", created_at=_CREATED_AT)
        output = Output(ref, "parent", kind, name)
        listing = ContainerListing(container, (PlannedOutput(output),), frozenset({kind}), {})
        result = Result(output, Outcome.COMPLETED, Reason.DOWNLOADED, file)
        await self.ledger.write(partial(_record, listing=listing, result=result))
        return result

    async def find_pending(self, output: Output) -> PendingOutput:
        """Return the ledger row of a completed output that no processor has processed."""
        pending = await self.ledger.read(
            partial(derived_queries.find_pending, output=output, processor="", version=0, include_failed=True)
        )
        if pending is None:
            raise LookupError(str(output))
        return pending

    def read_derived(self) -> dict[str, bytes]:
        """Return key and content of all files that are neither outputs nor in the state directory."""
        files = {
            path.relative_to(self.root).as_posix(): path
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] != STATE_FOLDER
        }
        return {key: path.read_bytes() for key, path in files.items() if key not in self._output_keys}

    def list_scratch(self) -> list[Path]:
        """Return what calls of processors have left in the scratch folder."""
        folder = self.folders.scratch_folder
        return sorted(folder.rglob("*")) if folder.exists() else []


def _record(connection: Connection, listing: ContainerListing, result: Result) -> None:
    queries.plan_container(connection, listing)
    queries.record_results(connection, [result], "sample")


@asynccontextmanager
async def open_sample_directory(root: Path) -> AsyncIterator[SampleDirectory]:
    """Create or open the output directory *root*."""
    executors = Executors()
    storage = create_storage(root, durability=Durability.NONE, executors=executors)
    storage.state.prepare()
    ledger = await Ledger.open(storage.state.ledger_path, synchronous=False)
    try:
        directory = SampleDirectory(root, storage, ledger, executors)
        await directory.read_output_keys()
        yield directory
    finally:
        await ledger.close()
        executors.close()
