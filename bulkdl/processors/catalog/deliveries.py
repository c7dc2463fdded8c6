"""The entries of a delivery: one for each STAC item, and for each output without a file or an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bulkdl.processors.catalog.dates import DELIVERY, find_date
from bulkdl.processors.catalog.entry_building import EntryFactory, is_completed, unpack_notes
from bulkdl.processors.catalog.facts import CatalogEntry, CatalogFile, Footprint
from bulkdl.processors.catalog.files import MemberFiles, output_file
from bulkdl.processors.catalog.geometry import bbox_differs, read_footprint
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.records import LedgerContainer, LedgerOutput
from bulkdl.processors.catalog.stac_properties import common_properties

_ORIGINAL, _ASSET, _PREVIEW = "original", "asset", "preview"
_ROLES = {_ORIGINAL: "original", _ASSET: "data", _PREVIEW: "thumbnail", "metadata": "metadata"}
_MAX_UNION_ITEMS = 100
_RANKS = {_ASSET: 0, _ORIGINAL: 1}


def create_delivery_entries(container: LedgerContainer, tree: OutputTree) -> tuple[CatalogEntry, ...]:
    """Return all entries of a delivery."""
    return tuple(_DeliveryEntries(container, tree).create())


class _DeliveryEntries:
    def __init__(self, container: LedgerContainer, tree: OutputTree) -> None:
        self._container = container
        self._tree = tree
        self._factory = EntryFactory(tree, container)
        delivery = self._read("delivery", "")
        folders = delivery.get("items")
        self._folders: Mapping[str, Any] = folders if isinstance(folders, dict) else {}

    def create(self) -> list[CatalogEntry]:
        groups: dict[str, list[LedgerOutput]] = {}
        for output in self._container.outputs:
            groups.setdefault(output.parent, []).append(output)
        own = groups.pop("", [])
        entries: list[CatalogEntry] = []
        for parent, outputs in groups.items():
            entries += self._create_item(parent, outputs)
        union = _unite([entry.footprint for entry in entries if entry.footprint is not None])
        used = {output.digest for outputs in groups.values() for output in outputs if output.digest}
        for output in own:
            if not (output.digest in used and is_completed(output, self._tree)):
                entries.append(self._create_own(output, union))
        return entries

    def _read(self, name: str, folder: str) -> dict[str, Any]:
        locate = self._container.document_key
        document = self._tree.read_document(locate(name, folder)) if locate is not None else None
        return document if isinstance(document, dict) else {}

    def _create_item(self, item_id: str, outputs: Sequence[LedgerOutput]) -> list[CatalogEntry]:
        folder = self._folders.get(item_id)
        item = self._read("item", folder) if isinstance(folder, str) else {}
        notes = [] if item else ["The document of the item is missing or invalid."]
        footprint = read_footprint(item.get("geometry"), notes) if item else None
        properties = item.get("properties")
        properties = dict(properties) if isinstance(properties, dict) else {}
        if bbox_differs(item.get("bbox"), footprint):
            properties["up42:bbox"] = item.get("bbox")
        completed = [output for output in outputs if is_completed(output, self._tree)]
        ranked = sorted(completed or outputs, key=lambda output: _RANKS.get(output.kind, 2))
        main = ranked[0]
        title = properties.get("title")
        entry = self._factory.create(
            main,
            names=[title if isinstance(title, str) else "", item_id],
            outputs=ranked,
            files=self._files(item, completed, notes),
            feature_id=item_id,
            footprint=footprint,
            properties=common_properties(properties),
            provider_properties=properties,
            **self._date(properties, notes),
        )
        problems = [
            self._factory.create_problem(output, footprint, **self._date(properties, []))
            for output in outputs
            if output is not main and not is_completed(output, self._tree)
        ]
        return [entry, *problems]

    def _create_own(self, output: LedgerOutput, union: Footprint | None) -> CatalogEntry:
        """Return the entry of an output of the delivery itself, which covers the area of all items."""
        if not is_completed(output, self._tree):
            return self._factory.create_problem(output, union, **self._date({}, []))
        notes = unpack_notes(output)
        name = output.key.rpartition("/")[2]
        return self._factory.create(
            output,
            names=[name],
            files=[*self._members(output, notes), self._file(output, _ROLES.get(output.kind, "data"), {})],
            footprint=union,
            **self._date({}, notes),
        )

    def _members(self, output: LedgerOutput, notes: list[str]) -> list[CatalogFile]:
        unpacked = self._tree.unpacked(output.key) if output.unpack_state == "completed" else None
        return MemberFiles(self._tree, unpacked).remaining(notes) if unpacked is not None else []

    def _files(
        self, item: Mapping[str, Any], outputs: Sequence[LedgerOutput], notes: list[str]
    ) -> list[CatalogFile]:
        """Return the files of an item with the keys of its assets."""
        assets = item.get("assets")
        found: list[CatalogFile] = []
        used: set[str] = set()
        for output in outputs:
            key, asset = _find_asset(assets if isinstance(assets, dict) else {}, output)
            name = _unique(key or output.key.rpartition("/")[2] or output.kind, used)
            found.append(self._file(output, name, asset))
            found += [replace(file, name=_unique(file.name, used)) for file in self._members(output, notes)]
        return sorted(found, key=lambda file: file.role != "data")

    def _file(self, output: LedgerOutput, name: str, asset: Mapping[str, Any]) -> CatalogFile:
        title = asset.get("title")
        return output_file(
            self._tree,
            output,
            name,
            _ROLES.get(output.kind, "data"),
            title=title[:200] if isinstance(title, str) else "",
        )

    def _date(self, properties: Mapping[str, Any], notes: Sequence[str]) -> dict[str, Any]:
        container = self._container
        found = find_date(properties, container.created_at, container.finished_at, container=DELIVERY)
        return {
            "datetime": found.datetime,
            "start": found.start,
            "end": found.end,
            "datetime_source": found.source,
            "notes": (*notes, *found.notes),
        }


def _unique(base: str, used: set[str]) -> str:
    """Return *base*, with a number if it is in *used*, and add it to *used*."""
    name, number = base, 1
    while name in used:
        number += 1
        name = f"{base}-{number}"
    used.add(name)
    return name


def _find_asset(assets: Mapping[str, Any], output: LedgerOutput) -> tuple[str, Mapping[str, Any]]:
    """Return the STAC asset of an output, whose name begins with the ID of the asset; see ``asset_id_of``."""
    asset_id, _, key = output.name.partition("/")
    if key in assets and isinstance(assets[key], dict):
        return key, assets[key]
    for name, asset in assets.items():
        href = asset.get("href") if isinstance(asset, dict) else None
        if isinstance(href, str) and asset_id and asset_id in href.lower():
            return name[:200], asset
    return "", {}


def _unite(footprints: Sequence[Footprint]) -> Footprint | None:
    """Return the area of all items; None if there are none or too many."""
    if not 0 < len(footprints) <= _MAX_UNION_ITEMS:
        return None
    polygons = tuple(dict.fromkeys(polygon for each in footprints for polygon in each.polygons))
    geometry = {"type": "MultiPolygon", "coordinates": [_as_lists(polygon) for polygon in polygons]}
    return read_footprint(geometry, [])


def _as_lists(polygon: Sequence[Sequence[tuple[float, float]]]) -> list[list[list[float]]]:
    return [[list(position) for position in ring] for ring in polygon]
