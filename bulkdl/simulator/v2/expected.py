"""List the files of a complete download of the storage, for a byte-by-byte comparison in tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bulkdl.simulator.lazy_bytes import Blob, read_all
from bulkdl.simulator.objects import Bucket
from bulkdl.simulator.v2.deliveries import Deliveries, Delivery
from bulkdl.simulator.v2.item_assets import AssetFile
from bulkdl.simulator.v2.objects import asset_path
from bulkdl.simulator.v2.stac_documents import foreign_href, original_key


@dataclass(frozen=True, slots=True)
class Place:
    """
    One appearance of a file in the API.

    Attributes:
        item_id: None for the original in ``/v2/assets`` and in its collection.
        key: The STAC key. For an original that no collection has as an asset, its name, or empty.
        roles: STAC roles. Empty for an original that no collection has as an asset.
    """

    item_id: str | None
    key: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """
    One expected file.

    Attributes:
        collection_id: None for an original in no collection.
        is_original: The file is in ``/v2/assets``.
        name: File name in the Content-Disposition.
        places: All appearances; at least one.
    """

    workspace_id: str
    collection_id: str | None
    asset_id: str
    is_original: bool
    name: str
    places: tuple[Place, ...]
    order_id: str | None
    job_id: str | None
    bucket: Bucket = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """Return the path of the object on the storage."""
        return asset_path(self.asset_id)

    @property
    def body(self) -> Blob:
        return self.bucket.read(self.path)

    @property
    def size_bytes(self) -> int:
        return self.body.size

    def read(self) -> bytes:
        return read_all(self.body)


def iter_expected_files(deliveries: Deliveries, bucket: Bucket) -> Iterator[ExpectedFile]:
    """Yield all files that the API offers now, each asset once, oldest delivery first."""
    for delivery in deliveries.iter_deliveries():
        for file in deliveries.files(delivery.number):
            yield ExpectedFile(
                workspace_id=delivery.workspace_id,
                collection_id=delivery.collection_id,
                asset_id=file.id,
                is_original=file == delivery.original,
                name=file.name,
                places=tuple(_iter_places(deliveries, delivery, file)),
                order_id=delivery.order_id,
                job_id=delivery.job_id,
                bucket=bucket,
            )


def iter_foreign_hrefs(deliveries: Deliveries) -> Iterator[str]:
    """Yield the hrefs of item assets on another host, which a client must not request."""
    for delivery in deliveries.iter_deliveries():
        for item in deliveries.items(delivery.number):
            yield from (foreign_href(asset) for asset in item.assets if asset.file is None)


def _iter_places(deliveries: Deliveries, delivery: Delivery, file: AssetFile) -> Iterator[Place]:
    if file == delivery.original:
        if delivery.collection_id and delivery.lists_original:
            yield Place(None, original_key(delivery, file), ("data", "original"))
        else:
            yield Place(None, delivery.name or "", ())
    for item in deliveries.items(delivery.number):
        for asset in item.assets:
            if asset.file == file:
                yield Place(item.id, asset.key, asset.roles)
