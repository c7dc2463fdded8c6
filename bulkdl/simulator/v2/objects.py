"""Find the storage objects of originals and item assets by their path."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from bulkdl.simulator.v2.deliveries import Deliveries
from bulkdl.simulator.v2.item_assets import AssetFile

ASSET_BUCKET = "user-storage-interstellar-prod"
_PREFIX = f"/{ASSET_BUCKET}/assets/"


class AssetObject(NamedTuple):
    file: AssetFile
    modified_at: datetime


def asset_path(asset_id: str) -> str:
    return _PREFIX + asset_id


def find_object(deliveries: Deliveries, path: str) -> AssetObject | None:
    """Return the file at *path* (unquoted, with leading slash), or None if it does not exist."""
    if not path.startswith(_PREFIX):
        return None
    found = deliveries.find_asset(path.removeprefix(_PREFIX))
    if found is None:
        return None
    delivery, file = found
    return AssetObject(file, delivery.created_at)
