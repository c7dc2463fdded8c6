"""
Write a self-contained STAC catalogue: a Collection for each scope, a Catalog for each container, and items.

All links are relative. The files of unchanged containers are hard links to those of the old catalogue.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from bulkdl.processors.catalog.facts import BBox, CatalogContainer, CatalogInfo
from bulkdl.processors.catalog.json_text import encode_compact
from bulkdl.processors.catalog.stac_items import STAC_VERSION, Json, item_document, item_link, link
from bulkdl.processors.catalog.unchanged import KeptContainer, Summary, summarize, unite_bboxes

CATALOG = "catalog.json"
COLLECTION = "collection.json"
_WORLD = (-180.0, -90.0, 180.0, 90.0)


class _Extent:
    """The area and the time span of the items of a collection."""

    def __init__(self) -> None:
        self._bbox: BBox | None = None
        self._start = self._end = ""

    def add(self, summary: Summary, created_at: str) -> None:
        if summary.bbox is not None:
            self._bbox = unite_bboxes(self._bbox, summary.bbox)
        start, end = summary.start or created_at, summary.end or created_at
        self._start = min(self._start or start, start)
        self._end = max(self._end, end)

    def document(self) -> Json:
        return {
            "spatial": {"bbox": [list(self._bbox or _WORLD)]},
            "temporal": {"interval": [[self._start or None, self._end or None]]},
        }


class _Scope:
    """The collection that is being written."""

    def __init__(self, container: CatalogContainer) -> None:
        self.id = container.scope_id
        self.source = container.source
        self.title = container.scope_name or container.scope_id
        self.folder = container.folder.partition("/")[0]
        self.extent = _Extent()
        self.links: list[tuple[str, str]] = []

    def has(self, container: CatalogContainer) -> bool:
        return self.folder == container.folder.partition("/")[0]


class StacWriter:
    """
    Writes the STAC catalogue.

    Args:
        previous: The STAC catalogue of which unchanged files are linked; None if there is none.
    """

    def __init__(self, info: CatalogInfo, previous: Path | None = None) -> None:
        self._info = info
        self._folder = os.fspath(info.folder)
        self._previous = os.fspath(previous) if previous is not None else None
        self._scope: _Scope | None = None
        self._children: list[Json] = []

    def add(self, container: CatalogContainer) -> None:
        self._add_to_scope(container, summarize(container))
        write_json(f"{self._folder}/{container.folder}/{CATALOG}", _container_document(container))
        for entry in container.entries:
            document = item_document(container, entry)
            write_json(f"{self._folder}/{container.folder}/{entry.id}.json", document)

    def keep(self, kept: KeptContainer) -> bool:
        """Link the files of a container; without them it must be added."""
        if self._previous is None:
            return False
        facts = kept.facts
        names = [CATALOG, *(f"{identity}.json" for identity in kept.summary.ids)]
        old, new = f"{self._previous}/{facts.folder}", f"{self._folder}/{facts.folder}"
        os.makedirs(new, exist_ok=True)  # noqa: PTH103 - see write_json
        try:
            for name in names:
                os.link(f"{old}/{name}", f"{new}/{name}")
        except OSError:  # a file was removed, or the file system has no links
            shutil.rmtree(new, ignore_errors=True)
            return False
        self._add_to_scope(facts, kept.summary)
        return True

    def remove(self, scope_id: str, container_id: str) -> None:
        """Do nothing: the files of another container are not linked."""

    def _add_to_scope(self, container: CatalogContainer, summary: Summary) -> None:
        if self._scope is None or not self._scope.has(container):
            self._finish_scope()
            self._scope = _Scope(container)
        scope = self._scope
        scope.extent.add(summary, container.created_at)
        scope.links.append((container.folder.partition("/")[2], container.name or container.id))
        os.makedirs(f"{self._folder}/{container.folder}", exist_ok=True)  # noqa: PTH103 - see write_json

    def _finish_scope(self) -> None:
        scope = self._scope
        if scope is None:
            return
        self._children.append(link("child", f"./{scope.folder}/{COLLECTION}", title=scope.title))
        write_json(f"{self._folder}/{scope.folder}/{COLLECTION}", self._collection_document(scope))
        self._scope = None

    def _collection_document(self, scope: _Scope) -> Json:
        word = "project" if scope.source == "jobs" else "workspace" if scope.source == "storage" else "scope"
        document: Json = {
            "type": "Collection",
            "stac_version": STAC_VERSION,
            "id": scope.id,
            "title": scope.title,
            "description": f"The downloaded outputs of the {word} {scope.id}.",
            "license": "other",
            "extent": scope.extent.document(),
            "links": [
                link("root", f"../{CATALOG}"),
                link("parent", f"../{CATALOG}"),
                *(link("child", f"./{folder}/{CATALOG}", title=title) for folder, title in scope.links),
            ],
        }
        if "parquet" in self._info.formats:
            document["assets"] = {
                "items": {
                    "href": "../items.parquet",
                    "type": "application/vnd.apache.parquet",
                    "title": "All items with a footprint, of all collections",
                    "roles": ["collection-mirror"],
                }
            }
        return document

    def finish(self) -> None:
        self._finish_scope()
        document = {
            "type": "Catalog",
            "stac_version": STAC_VERSION,
            "id": "bulkdl",
            "title": "Downloaded outputs",
            "description": "The outputs of an output directory of bulkdl, including those that failed.",
            "updated": f"{self._info.written_at:%Y-%m-%dT%H:%M:%SZ}",
            "links": [link("root", f"./{CATALOG}"), *self._children],
        }
        write_json(f"{self._folder}/{CATALOG}", document)

    def close(self) -> None:
        """Release nothing: no file stays open."""


def _container_document(container: CatalogContainer) -> Json:
    own = {
        "up42:status": container.status,
        "up42:finished": container.finished_at,
        "up42:reason": container.failure,
        "up42:detail": container.failure_detail,
    }
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": container.id,
        "title": container.name or container.id,
        "description": f"The outputs of {container.name or container.id}.",
        "created": container.created_at,
        **{name: value for name, value in own.items() if value},
        "links": [
            link("root", f"../../{CATALOG}"),
            link("parent", f"../{COLLECTION}"),
            *(item_link(entry) for entry in container.entries),
        ],
    }


def write_json(path: str, document: Any) -> None:
    """Write one of many small files. The call avoids the overhead of buffered files and of pathlib."""
    data = encode_compact(document).encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
    finally:
        os.close(handle)
