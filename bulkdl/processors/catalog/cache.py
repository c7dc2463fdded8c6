"""
The entries of the last catalogue, so that unchanged containers need not be read again.

The file has one line for each container, in the order of the pass. It is read in step with the ledger, and
the new file is written at the same time. Memory is therefore bounded. A missing, damaged or older file only
means that more containers are read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from bulkdl.processors.catalog.entries import VERSION
from bulkdl.processors.catalog.entry_codec import decode_entry, encode_entry
from bulkdl.processors.catalog.facts import CatalogEntry
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.records import LedgerContainer

_FORMAT = f"bulkdl-catalog-cache {VERSION}"
_DOCUMENTS = ("job", "job_tasks", "delivery", "collection", "asset")

Order = tuple[str, str, str, str]
"""The position of a container in the pass: scope, source, ID, directory of the shard."""


def order_of(container: LedgerContainer, tree: OutputTree) -> Order:
    return container.scope, container.source, container.id, tree.prefix


def fingerprint(container: LedgerContainer, tree: OutputTree) -> str:
    """
    Return a text that differs after a change of the container, of its outputs or of their files.

    The sizes of all files are part of it, and the times of the documents, which the ledger does not record.
    """
    locate = container.document_key
    stamps: list[object] = []
    if locate is not None:
        stamps += [tree.stamp(key) for name in _DOCUMENTS if (key := locate(name, ""))]
    for output in container.outputs:
        stamp = tree.stamp(output.key) if output.key else None
        stamps.append(stamp[0] if stamp is not None else None)
        if output.unpack_state == "completed":
            stamps.append(tree.has_unpacked_folder(output.key))
    facts = (
        *(container.name, container.status, container.created_at, container.finished_at),
        *(container.failure, container.failure_detail),
        [output.fields() for output in container.outputs],
    )
    return hashlib.blake2b(repr((facts, stamps)).encode("utf-8", "replace"), digest_size=16).hexdigest()


class EntryCache:
    """
    The cache of one pass.

    Args:
        previous: The file of the last pass; it does not have to exist.
        path: The new file.
    """

    def __init__(self, previous: Path, path: Path, build: str) -> None:
        self._lines = _iter_lines(previous)
        self.previous_build = next(self._lines, ("",))[0]
        self._current = next(self._lines, None)
        self._stream = path.open("w", encoding="utf-8", buffering=1 << 18)
        self._write([_FORMAT, build])

    def find(self, order: Order, current: str) -> tuple[CatalogEntry, ...] | None:
        """
        Return the entries of a container whose fingerprint is *current*; None if it has changed.

        The containers must be looked up in their order.
        """
        while self._current is not None and tuple(self._current[0]) < order:
            self._current = next(self._lines, None)
        if self._current is None or tuple(self._current[0]) != order or self._current[1] != current:
            return None
        return tuple(decode_entry(values) for values in self._current[2])

    def add(self, order: Order, current: str, entries: tuple[CatalogEntry, ...]) -> None:
        """Write the entries of a container to the new file."""
        self._write([order, current, [encode_entry(entry) for entry in entries]])

    def _write(self, line: list[Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
        self._stream.write("\n")

    def close(self) -> None:
        self._lines.close()
        self._stream.close()


def _iter_lines(path: Path) -> Generator[Any, None, None]:
    """Yield the build of the file, then each of its lines; nothing if it is not usable."""
    try:
        with path.open("rb") as stream:
            head = json.loads(stream.readline())
            if not isinstance(head, list) or head[:1] != [_FORMAT] or len(head) != 2:
                return
            yield (head[1],)
            for line in stream:
                found = json.loads(line)
                if not isinstance(found, list) or len(found) != 3:
                    return
                yield found
    except (OSError, ValueError, RecursionError):
        return
