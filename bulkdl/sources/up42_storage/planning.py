"""
Rules of deliveries: their files, the kinds of the files, and their names. The functions are pure.

The asset ID is the identity of a file. An asset can appear as the original delivery, as an asset of the
collection and as an asset of an item. Each appearance is one output. All outputs of one asset have the same
identity, so that it is downloaded once and linked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from bulkdl.sources.up42_storage.file_names import add_suffix, choose_filenames
from bulkdl.sources.up42_storage.models import Collection, Item, Original, StacAsset
from bulkdl.sources.up42_storage.spec import ASSET, METADATA, ORIGINAL, PREVIEW

COLLECTION_DOCUMENT, ITEM_DOCUMENT, ASSET_DOCUMENT = "collection.json", "item.json", "asset.json"
DELIVERY_DOCUMENT = "delivery.json"
DOCUMENTS = frozenset({COLLECTION_DOCUMENT, ITEM_DOCUMENT, ASSET_DOCUMENT, DELIVERY_DOCUMENT})
_PREVIEW_ROLES = frozenset({"thumbnail", "preview", "overview", "quicklook", "browse"})
_METADATA_ROLES = frozenset({"metadata", "license", "licence", "documentation"})
_PREVIEW_SUFFIXES = (".jpg", ".jpeg", ".png")
_METADATA_SUFFIXES = (".xml", ".json", ".txt", ".pdf", ".html")


@dataclass(frozen=True, slots=True)
class DeliveryFile:
    """
    One appearance of an asset in a delivery.

    Attributes:
        item_id: The item that has the asset; empty: the delivery itself.
        name: Unique for the item and the kind. It begins with the asset ID, see ``asset_id_of``.
        path: The safe file name; for an asset of an item, its folder, a slash and the file name.
    """

    item_id: str
    kind: str
    name: str
    path: str

    @property
    def asset_id(self) -> str:
        return asset_id_of(self.name)


def asset_id_of(name: str) -> str:
    """Return the asset ID in the name of an output. A STAC key can follow after a slash."""
    return name.partition("/")[0]


def find_kind(asset: StacAsset) -> str:
    """Return the kind of an asset by its roles; by its name if they do not determine it."""
    if "original" in asset.roles:
        return ORIGINAL
    if asset.roles & _PREVIEW_ROLES:
        return PREVIEW
    if asset.roles & _METADATA_ROLES:
        return METADATA
    if asset.roles:
        return ASSET
    key = asset.key.lower()
    if key.endswith(_PREVIEW_SUFFIXES):
        return PREVIEW
    return METADATA if key.endswith(_METADATA_SUFFIXES) else ASSET


def plan_original(
    original: Original, fallback_name: str = "", reserved: frozenset[str] = DOCUMENTS
) -> tuple[DeliveryFile, ...]:
    """
    Return the file of an original delivery that is in no collection.

    Args:
        fallback_name: A name from another place, for an entry without a name.
        reserved: The names of documents, in lower case.
    """
    name = add_suffix(original.name or fallback_name or original.id, original.media_type)
    (path,) = choose_filenames({original.id: name}, reserved).values()
    return (DeliveryFile("", ORIGINAL, original.id, path),)


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """The files of a delivery, and the folder of each item by its ID."""

    files: tuple[DeliveryFile, ...]
    item_folders: Mapping[str, str]


@dataclass(slots=True)
class _Place:
    """
    An asset of the collection or of one item, before its path is known.

    Attributes:
        key: The STAC key; empty for an original that is not an asset of its collection.
        wanted: The file name, which is not safe yet.
    """

    item_id: str
    kind: str
    asset_id: str
    key: str
    wanted: str
    name: str = ""

    @property
    def identity(self) -> str:
        return f"{self.kind}\0{self.name}"


def plan_delivery(
    collection: Collection,
    items: Sequence[Item],
    original: Original | None,
    reserved: frozenset[str] = DOCUMENTS,
) -> DeliveryPlan:
    """
    Return the files of a collection and its items.

    Args:
        original: The entry of the original in the list of assets; None if the list does not contain it.
        reserved: The names of documents, in lower case.
    """
    own = _places("", collection.assets)
    of_items = {item.id: _places(item.id, item.assets) for item in items}
    original_ids = {place.asset_id for place in own if place.kind == ORIGINAL}
    original_ids |= {original.id} if original is not None else set()
    original_ids |= {place.asset_id for place in chain.from_iterable(of_items.values())} & {
        collection.asset_id or ""
    }
    in_items = list(chain.from_iterable(of_items.values()))
    _add_originals(own, in_items, original_ids, original)
    _name_places([*own, *in_items])
    return _choose_paths(own, of_items, reserved)


def _places(item_id: str, assets: Iterable[StacAsset]) -> list[_Place]:
    return [
        _Place(item_id, find_kind(asset), asset.asset_id, asset.key, add_suffix(asset.key, asset.media_type))
        for asset in assets
        if asset.asset_id is not None
    ]


def _add_originals(
    own: list[_Place], in_items: Sequence[_Place], original_ids: set[str], original: Original | None
) -> None:
    """Add an original that is not an asset of the collection. Name its other appearances after it."""
    names = {place.asset_id: place.wanted for place in own}
    for asset_id in sorted(original_ids - names.keys()):
        if original is not None and original.id == asset_id:
            wanted = add_suffix(original.name or asset_id, original.media_type)
        else:
            wanted = next(place.wanted for place in in_items if place.asset_id == asset_id)
        names[asset_id] = wanted
        own.append(_Place("", ORIGINAL, asset_id, "", wanted))
    for place in (*own, *in_items):
        if place.asset_id in original_ids:
            place.kind, place.wanted = ORIGINAL, names[place.asset_id]


def _name_places(places: Iterable[_Place]) -> None:
    """Give each place a name that is unique for its item and kind."""
    used: set[tuple[str, str, str]] = set()
    for place in places:
        first = (place.item_id, place.kind, place.asset_id)
        place.name = f"{place.asset_id}/{place.key}" if first in used else place.asset_id
        used.add(first)


def _choose_paths(
    own: Sequence[_Place], of_items: Mapping[str, Sequence[_Place]], reserved: frozenset[str]
) -> DeliveryPlan:
    """Choose the names in the folder of the delivery and in the folders of its items."""
    wanted = {f"file\0{place.identity}": place.wanted for place in own}
    wanted |= {f"item\0{item_id}": item_id for item_id in of_items}
    chosen = choose_filenames(wanted, reserved)
    folders = {item_id: chosen[f"item\0{item_id}"] for item_id in of_items}
    files = [DeliveryFile("", place.kind, place.name, chosen[f"file\0{place.identity}"]) for place in own]
    for item_id, places in of_items.items():
        names = choose_filenames({place.identity: place.wanted for place in places}, reserved)
        files += [
            DeliveryFile(item_id, place.kind, place.name, f"{folders[item_id]}/{names[place.identity]}")
            for place in places
        ]
    return DeliveryPlan(tuple(files), folders)
