"""
Convert deliveries to containers. The functions are pure.

The container of an original without a collection has the asset ID behind a prefix, so that its ID alone
determines its paths.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bulkdl.listings import UnreadableContainer
from bulkdl.models import Container, ContainerRef
from bulkdl.sources.up42_storage.delivery_index import Origin
from bulkdl.sources.up42_storage.models import Collection, Original
from bulkdl.sources.up42_storage.spec import SOURCE

ASSET_PREFIX = "asset-"
# Scope of a delivery without a workspace.
NO_WORKSPACE = "unassigned"
# The status of an order with further deliveries to come.
INCOMPLETE = "BEING_FULFILLED"
_RESERVED_IDS = frozenset({"assets"})
_IN_PROGRESS = frozenset({"IN_PROGRESS"})
_EXTRACTED = frozenset({"SUCCESSFUL", "FAILED"})


def asset_id_of_container(ref: ContainerRef) -> str | None:
    """Return the asset of a container that is an original without a collection; None for a collection."""
    return ref.id.removeprefix(ASSET_PREFIX) if ref.id.startswith(ASSET_PREFIX) else None


def collection_container(
    collection: Collection, original: Original | None, job: Origin | None, order: Origin | None
) -> Container | UnreadableContainer:
    """
    Return the container of a collection.

    Args:
        original: Its original delivery, if the list of assets contains it.
        job: The processing job that produced it.
        order: The order that it belongs to.
    """
    if collection.id.startswith(ASSET_PREFIX) or collection.id.lower() in _RESERVED_IDS:
        return UnreadableContainer(None, f"collection {collection.id}: the ID is reserved")
    origin = job or order or Origin()
    job_id = job.id if job else collection.job_id or ""
    created_at = original.created_at if original and original.created_at else origin.created_at
    attributes = {
        "order": collection.order_id or "",
        "job": job_id,
        "collection_name": collection.collection_name,
        "order_name": order.name if order else "",
        **_original_attributes(original),
    }
    return Container(
        ref=ContainerRef(SOURCE, collection.workspace_id or NO_WORKSPACE, collection.id),
        status=(job.status if job else "") or collection.order_status or (order.status if order else ""),
        is_final=True,
        revision="",
        created_at=created_at or datetime.now(UTC),
        name=collection.title or origin.name or None,
        attributes={key: value for key, value in attributes.items() if value},
        former_id=ASSET_PREFIX + original.id if original else "",
        document=collection.document,
    )


def original_container(original: Original, order: Origin | None) -> Container:
    """Return the container of an original that is in no collection."""
    attributes = {
        "order": original.order_id or "",
        "collection_name": original.collection_name,
        "order_name": order.name if order else "",
        **_original_attributes(original),
    }
    return Container(
        ref=ContainerRef(SOURCE, original.workspace_id or NO_WORKSPACE, ASSET_PREFIX + original.id),
        status=order.status if order else "",
        is_final=True,
        revision="",
        created_at=original.created_at or (order.created_at if order else None) or datetime.now(UTC),
        name=original.title or (order.name if order else "") or original.name or None,
        attributes={key: value for key, value in attributes.items() if value},
        document=original.document,
    )


def _original_attributes(original: Original | None) -> dict[str, str]:
    """Return what the listing of outputs needs of the original, whose document is not stored."""
    if original is None:
        return {}
    return {
        "asset": original.id,
        "asset_name": original.name,
        "asset_type": original.media_type,
        "extraction": original.extraction_status,
    }


def original_of(container: Container, collection: Collection) -> Original | None:
    """Return the original of a collection from the values that its container has; None if it has none."""
    attributes = container.attributes
    if "asset" not in attributes:
        return None
    return Original(
        id=attributes["asset"],
        workspace_id=collection.workspace_id,
        created_at=container.created_at,
        name=attributes.get("asset_name", ""),
        title="",
        media_type=attributes.get("asset_type", ""),
        size_bytes=None,
        order_id=collection.order_id,
        collection_name=collection.collection_name,
        extraction_status=attributes.get("extraction", ""),
    )


def is_settled(container: Container, now: datetime, grace: timedelta) -> bool:
    """
    Return whether no further items of a delivery are expected.

    UP42 creates the items of a delivery after its original. A delivery in an unknown or unprocessed state is
    settled only after *grace*.
    """
    extraction = container.attributes.get("extraction", "")
    if extraction in _IN_PROGRESS:
        return False
    is_complete = extraction in _EXTRACTED and container.status != INCOMPLETE
    return is_complete or container.created_at < now - grace
