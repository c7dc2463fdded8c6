"""Define the files of a delivery and create the assets of an item for each form of content."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from bulkdl.simulator.geotiff import Bounds
from bulkdl.simulator.ids import IdKind, Ids, Index
from bulkdl.simulator.scenarios import HOSTILE_NAMES
from bulkdl.simulator.v2.scenarios import Form

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
MEDIA_TYPES = {
    "zip": "application/zip",
    "tgz": "application/gzip",
    "tif": "image/tiff; application=geotiff",
    "tiff": _COG,
    "bigtiff": "image/tiff; application=geotiff",
    "jp2": _COG,  # UP42 has JP2 keys with this type
    "jpg": "image/jpeg",
    "png": "image/png",
    "json": "application/json",
    "geojson": "application/geo+json",
    "xml": "application/xml",
    "txt": "text/plain",
    "pdf": "application/pdf",
    "bin": "application/octet-stream",
}
_SENTINEL_RASTERS = (
    *("aot", "b01", "b02", "b03", "b04", "b05", "b06", "b07", "b08", "b09", "b11", "b12", "b8a"),
    *("scl", "tci", "wvp", "l2a_pvi"),
)


class Href(Enum):
    """The form of an asset's href."""

    ASSET = "asset"
    DOWNLOAD_URL = "download-url"  # ends in /download-url
    FOREIGN = "foreign"  # on another host


@dataclass(frozen=True, slots=True)
class AssetFile:
    """
    One file on the storage.

    Attributes:
        name: The name in the Content-Disposition.
        suffix: Selects the content: a key of ``MEDIA_TYPES``.
        size_bytes: Approximate size, if the content can have any size.
        key: Seed of the content.
    """

    id: str
    name: str
    suffix: str
    size_bytes: int
    bounds: Bounds
    key: str = field(repr=False)

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.suffix]


@dataclass(frozen=True, slots=True)
class ItemAsset:
    """One entry of an item's ``assets``. *file* is None for an href on another host."""

    key: str
    title: str | None
    roles: tuple[str, ...]
    media_type: str
    file: AssetFile | None
    href: Href = Href.ASSET
    description: str | None = None


class _Owner(Protocol):
    """The part of the deliveries that these functions use."""

    @property
    def seed(self) -> int: ...
    @property
    def ids(self) -> Ids: ...
    @property
    def options(self) -> _Options: ...


class _Options(Protocol):
    @property
    def item_assets(self) -> tuple[int, int]: ...
    @property
    def raster_bytes(self) -> tuple[int, int]: ...
    @property
    def hostile_names(self) -> bool: ...


def random_size(sizes: tuple[int, int], rng: random.Random) -> int:
    """Return a random size, uniform on a logarithmic scale."""
    low, high = sizes
    return round(low * (high / low) ** rng.random()) if low else rng.randint(0, high)


def create_item_assets(
    form: Form, owner: _Owner, item: Index, original: AssetFile | None, bounds: Bounds, rng: random.Random
) -> tuple[ItemAsset, ...]:
    """Return the assets of *item* for *form*."""
    if form is Form.ORIGINAL:
        assert original is not None, "the scenario has an original"  # noqa: S101 - for the type checker
        kind = original.media_type
        return (ItemAsset("data", "Data", ("data",), kind, original, description="Storage Data"),)
    keys = _keys(form, owner, rng)
    assets = [_create_asset(owner, item, part, key, bounds, rng) for part, key in enumerate(keys)]
    if form is Form.FOREIGN:
        assets[0] = replace(assets[0], file=None, href=Href.FOREIGN)
    if form is Form.SAME_OBJECT:
        assets[1] = replace(assets[1], file=assets[0].file)
        assets[2] = replace(assets[2], href=Href.DOWNLOAD_URL)
    return tuple(assets)


def _keys(form: Form, owner: _Owner, rng: random.Random) -> list[str]:
    match form:
        case Form.SENTINEL:
            rasters = [f"{name}.tiff" for name in _SENTINEL_RASTERS]
            return [*rasters, "preview.jpg", "metadata.xml", "stac.geojson", "tileinfo.json"]
        case Form.EVERY_TYPE:
            return [f"{_stem(suffix)}.{suffix}" for suffix in MEDIA_TYPES if suffix not in {"zip", "tgz"}]
        case Form.HOSTILE:
            return list(HOSTILE_NAMES)
        case Form.VECTOR:
            return ["detections.geojson"]
        case Form.CASE:
            return ["B01.tiff", "b01.TIFF", "b01.tiff", "Preview.jpg", "preview.JPG"]
        case Form.FOREIGN | Form.SAME_OBJECT:
            return ["b01.tiff", "b02.tiff", "b03.tiff", "preview.jpg", "metadata.xml"]
    count = rng.randint(*owner.options.item_assets)
    others = ["preview.jpg", "metadata.xml"][: max(0, count - 1)]
    return [f"b{at:02}.tiff" for at in range(1, count - len(others) + 1)] + others


def _stem(suffix: str) -> str:
    return {"xml": "metadata", "jpg": "preview", "png": "quicklook", "txt": "licenseagreement-1.1"}.get(
        suffix, "file"
    )


def _create_asset(
    owner: _Owner, item: Index, part: int, key: str, bounds: Bounds, rng: random.Random
) -> ItemAsset:
    suffix = key.rpartition(".")[2].lower()
    suffix = suffix if suffix in MEDIA_TYPES else "bin"
    index = Index(IdKind.ITEM_ASSET, job=item.job, task=item.task, part=part)
    is_replaced = key in HOSTILE_NAMES and not owner.options.hostile_names
    name = f"asset_{part}.{suffix}" if is_replaced else key
    file = AssetFile(
        id=owner.ids.encode(index),
        name=name,
        suffix=suffix,
        size_bytes=random_size(owner.options.raster_bytes, rng),
        bounds=bounds,
        key=f"{owner.seed}/{item.job}/{item.task}/{part}",
    )
    return ItemAsset(key, key.rpartition(".")[0] or None, _roles(key, suffix), file.media_type, file)


def _roles(key: str, suffix: str) -> tuple[str, ...]:
    if suffix in {"jpg", "png"}:
        return ("thumbnail",) if key.startswith("quicklook") else ("preview",)
    if suffix in {"xml", "json", "txt", "pdf"}:
        return ("metadata",)
    if suffix == "geojson":
        return ("data",) if key.startswith("detections") else ("mask",)
    return ("data", "multispectral")
