"""Request one delivery by its ID, with the values that the lists of an account have."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from bulkdl.errors import ApiError
from bulkdl.listings import UnreadableContainer
from bulkdl.log import get_logger
from bulkdl.models import Container, ContainerRef, Reason
from bulkdl.sources.up42_storage.client import StorageClient, is_listing_withdrawn
from bulkdl.sources.up42_storage.containers import (
    asset_id_of_container,
    collection_container,
    original_container,
)
from bulkdl.sources.up42_storage.delivery_index import Origin
from bulkdl.sources.up42_storage.models import Collection, Original

_log = get_logger(__name__)
_T = TypeVar("_T")


async def request_container(client: StorageClient, ref: ContainerRef) -> Container:
    """
    Request the container *ref*: its collection and original, and its processing job or order.

    Raises:
        ApiError: The delivery does not exist, or it cannot be read.
    """
    asset_id = asset_id_of_container(ref)
    if asset_id is not None:
        original = await client.original(asset_id)
        return original_container(original, await _request_order(client, original.order_id))
    collection = await client.collection(ref.id)
    container = collection_container(
        collection,
        await _request_original(client, collection),
        await _request_job(client, collection),
        await _request_order(client, collection.order_id),
    )
    if isinstance(container, UnreadableContainer):
        raise ApiError(Reason.INVALID_RESPONSE, container.problem)
    return container


async def _request_original(client: StorageClient, collection: Collection) -> Original | None:
    """Return the original of *collection*; None if it has none or the endpoint is not available."""
    if collection.asset_id is None:
        return None
    try:
        return await client.original(collection.asset_id)
    except ApiError as failure:
        if not is_listing_withdrawn(failure):
            raise
        return None


async def _request_job(client: StorageClient, collection: Collection) -> Origin | None:
    if collection.job_id is None:
        return None
    job = await _request_origin("job", client.job(collection.job_id))
    if job is None or job.collection_id != collection.id:
        return None
    return Origin(job.id, job.title, job.status, job.finished_at or job.created_at)


async def _request_order(client: StorageClient, order_id: str | None) -> Origin | None:
    if order_id is None:
        return None
    order = await _request_origin("order", client.order(order_id))
    return Origin(order.id, order.display_name, order.status, order.created_at) if order else None


async def _request_origin(what: str, request: Awaitable[_T]) -> _T | None:
    """Return the result of *request*, which is needed only for names; None if it fails."""
    try:
        return await request
    except ApiError as failure:
        if failure.reason is Reason.CREDENTIALS:
            raise
        _log.warning("origins.not_listed", list=what, reason=failure.reason.value, detail=failure.detail)
        return None
