"""Values that the client returns: originals, collections, items, processing jobs and orders."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Original:
    """
    An original delivery: one entry of ``/v2/assets``.

    Attributes:
        id: The asset ID in lower case. All assets, including those of STAC items, have IDs of one space.
        name: The file name (untrusted); empty if the entry has none.
        extraction_status: Whether the STAC items exist already, for example ``IN_PROGRESS``; empty: unknown.
        document: The entry as UP42 returned it.
    """

    id: str
    workspace_id: str | None
    created_at: datetime | None
    name: str
    title: str
    media_type: str
    size_bytes: int | None
    order_id: str | None
    collection_name: str
    extraction_status: str
    document: dict[str, Any] = field(repr=False, compare=False, hash=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class StacAsset:
    """
    One asset of a collection or an item.

    Attributes:
        key: The key in the document (untrusted); unique in its collection or item.
        asset_id: The ID in lower case; None if the asset is on another host and cannot be downloaded.
        media_type: The type in lower case, with its parameters (untrusted); empty if it is missing.
        roles: The roles in lower case.
    """

    key: str
    asset_id: str | None
    media_type: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Collection:
    """
    A STAC collection: one delivery of an order, or the result of a processing job.

    Attributes:
        asset_id: The ID of the original delivery in lower case.
        order_status: Upper case with underscores; empty if it is unknown.
        document: The collection as UP42 returned it.
    """

    id: str
    workspace_id: str | None
    title: str
    asset_id: str | None
    order_id: str | None
    order_status: str
    job_id: str | None
    collection_name: str
    assets: tuple[StacAsset, ...]
    document: dict[str, Any] = field(repr=False, compare=False, hash=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """
    A STAC item: one scene of a delivery.

    Attributes:
        id: Unique in its collection (untrusted).
        document: The item as UP42 returned it.
    """

    id: str
    collection_id: str
    workspace_id: str | None
    order_id: str | None
    job_id: str | None
    assets: tuple[StacAsset, ...]
    document: dict[str, Any] = field(repr=False, compare=False, hash=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessingJob:
    """
    A processing job.

    Attributes:
        status: Upper case.
        collection_id: Its result, if it has one.
        finished_at: The creation time of its result.
    """

    id: str
    workspace_id: str | None
    process_id: str
    title: str
    status: str
    created_at: datetime | None
    collection_id: str | None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An order. *status* is in upper case with underscores."""

    id: str
    workspace_id: str | None
    display_name: str
    status: str
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """
    An entry of a list that cannot be decoded.

    Attributes:
        identity: None if its ID is invalid.
        collection_id: The collection of an item; None if it is unknown.
    """

    kind: str
    identity: str | None
    problem: str
    collection_id: str | None = None
