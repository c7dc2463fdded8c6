"""
What the last catalogue was made of, so that unchanged containers need not be read again.

The file has one line for each container, in the order of the pass: its position, its fingerprint, a summary,
its entries, and the texts of the writers. It is read in step with the ledger, and the new file is written at
the same time. Memory is therefore bounded. The line of an unchanged container is copied without being parsed.
A missing, damaged or older file only means that more containers are read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkdl.processors.catalog.entries import VERSION
from bulkdl.processors.catalog.entry_codec import decode_entry, encode_entry
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry
from bulkdl.processors.catalog.json_text import encode_compact
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.records import LedgerContainer
from bulkdl.processors.catalog.unchanged import Summary

_FORMAT = f"bulkdl-catalog-cache {VERSION}"
_DOCUMENTS = ("job", "job_tasks", "delivery", "collection", "asset")
_SEPARATOR = "\t"  # JSON escapes it
_FIELDS = 4

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


class CachedContainer:
    """The line of an unchanged container."""

    def __init__(self, fields: Sequence[str], texts: Mapping[str, str]) -> None:
        self.line = fields
        self.summary = Summary.decode(json.loads(fields[2]))
        self.texts = texts

    def entries(self) -> tuple[CatalogEntry, ...]:
        return tuple(decode_entry(values) for values in json.loads(self.line[3]))


class EntryCache:
    """
    The cache of one pass.

    Args:
        previous: The file of the last pass; it does not have to exist.
        path: The new file.
        formats: The writers whose texts are stored.
        variant: Differs if the same entries have other texts.
    """

    def __init__(self, previous: Path, path: Path, build: str, formats: Sequence[str], variant: str) -> None:
        self._formats = tuple(formats)
        self._lines = _iter_lines(previous)
        head: list[Any] = next(self._lines, ["", [], ""])
        self.previous_build = str(head[0])
        self.is_same_variant = head[2] == variant
        self._previous_formats = tuple(head[1]) if self.is_same_variant else ()
        self._current = self._next()
        self._stream = path.open("w", encoding="utf-8", buffering=1 << 18)
        self._stream.write(json.dumps([_FORMAT, build, list(self._formats), variant]) + "\n")
        self.removed: list[Order] = []

    def _next(self) -> tuple[Order, list[str]] | None:
        fields = next(self._lines, None)
        if fields is None:
            return None
        try:
            scope, source, identity, prefix = json.loads(fields[0])
        except ValueError:  # a damaged file
            return None
        return (scope, source, identity, prefix), fields

    def find(self, order: Order, current: str) -> CachedContainer | None:
        """
        Return a container whose fingerprint is *current*; None if it has changed.

        The containers must be looked up in their order. ``removed`` receives the containers before *order*
        that are not looked up, and *order* itself if it has changed.
        """
        while self._current is not None and self._current[0] < order:
            self.removed.append(self._current[0])
            self._current = self._next()
        if self._current is None or self._current[0] != order:
            return None
        fields = self._current[1]
        self._current = self._next()
        if fields[1] != current:
            self.removed.append(order)
            return None
        texts = dict(zip(self._previous_formats, fields[_FIELDS:], strict=False))
        try:
            return CachedContainer(fields, texts)
        except (ValueError, TypeError):  # a damaged file
            self.removed.append(order)
            return None

    def skip_rest(self) -> None:
        """Add the containers after the last one that was looked up to ``removed``."""
        while self._current is not None:
            self.removed.append(self._current[0])
            self._current = self._next()

    def add(
        self,
        order: Order,
        current: str,
        summary: Summary,
        source: CatalogContainer | CachedContainer,
        texts: Mapping[str, str],
    ) -> None:
        """Write a container to the new file."""
        if isinstance(source, CachedContainer):
            head = source.line[:_FIELDS]
        else:
            entries = [encode_entry(entry) for entry in source.entries]
            head = [encode_compact(order), current, encode_compact(summary.encode()), encode_compact(entries)]
        self._stream.write(_SEPARATOR.join((*head, *(texts[name] for name in self._formats))) + "\n")

    def close(self) -> None:
        self._lines.close()
        self._stream.close()


def _iter_lines(path: Path) -> Generator[Any, None, None]:
    """Yield build, formats and variant of the file, then the fields of each line, up to an invalid line."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            head = json.loads(stream.readline())
            if not isinstance(head, list) or head[:1] != [_FORMAT] or len(head) != 4:
                return
            yield head[1:]
            count = _FIELDS + len(head[2])
            for line in stream:
                fields = line.removesuffix("\n").split(_SEPARATOR)
                if len(fields) != count or not line.endswith("\n"):
                    return
                yield fields
    except (OSError, ValueError, TypeError, RecursionError):
        return
