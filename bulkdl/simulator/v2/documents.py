"""Create the documents of ``/v2/assets``, ``/v2/orders`` and ``/v2/processing/jobs``."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from bulkdl.simulator.documents import Json
from bulkdl.simulator.v2.deliveries import Deliveries, Delivery, order_numbers
from bulkdl.simulator.v2.item_assets import AssetFile

_PROCESSES = ("pansharpening", "true-color-conversion", "detection-ships-airbus", "upsampling-ns")


def asset_document(
    deliveries: Deliveries, delivery: Delivery, original: AssetFile, size: int, changes: dict[str, Any]
) -> Json:
    """Return one entry of ``/v2/assets``. *changes* are the title and tags that a user has set."""
    return {
        "id": original.id,
        "accountId": deliveries.account_id,
        "workspaceId": delivery.workspace_id,
        "createdAt": micros(delivery.created_at),
        "updatedAt": micros(delivery.updated_at),
        "name": delivery.name,
        "size": size,
        "contentType": delivery.content_type or original.media_type.partition(";")[0],
        "geospatialMetadataExtractionStatus": delivery.extraction,
        "productId": delivery.product_id,
        "orderId": delivery.order_id,
        "producerName": delivery.producer,
        "collectionName": delivery.collection_name,
        "source": delivery.source,
        "title": delivery.title,
        "tags": None if delivery.tags is None else list(delivery.tags),
        **changes,
    }


def page_document(content: list[Json], page: int, size: int, total: int) -> Json:
    """Return one page of *total* entries as Spring does."""
    pages = -(-total // size)
    sort = {"sorted": True, "unsorted": False, "empty": False}
    return {
        "content": content,
        "pageable": {
            "sort": sort,
            "pageNumber": page,
            "pageSize": size,
            "offset": page * size,
            "paged": True,
            "unpaged": False,
        },
        "totalPages": pages,
        "totalElements": total,
        "last": page + 1 >= pages,
        "first": page == 0,
        "size": size,
        "number": page,
        "numberOfElements": len(content),
        "sort": sort,
        "empty": not content,
    }


def order_status(deliveries: Deliveries, first: int) -> str:
    """Return FULFILLED if all deliveries of the order exist and were extracted."""
    numbers = order_numbers(first)
    if numbers[-1] >= deliveries.count:
        return "BEING_FULFILLED"
    settled = all(deliveries.scenario(number).is_settled for number in numbers)
    return "FULFILLED" if settled else "BEING_FULFILLED"


def order_document(deliveries: Deliveries, first: int) -> Json:
    delivery = deliveries.delivery(first)
    created = delivery.created_at - timedelta(minutes=4)
    area = {"type": "Polygon", "coordinates": [[[13.3, 52.5], [13.4, 52.5], [13.4, 52.6], [13.3, 52.5]]]}
    is_tasking = delivery.source == "TASKING"
    archive = {"aoi": area, "imageId": f"scene-{first}"}
    tasking = {
        "acquisitionStart": micros(created),
        "acquisitionEnd": micros(created + timedelta(days=30)),
        "geometry": area,
        "extraDescription": None,
        "subStatus": None,
    }
    person = {"id": deliveries.workspace_id(0), "type": "INTERNAL"}
    return {
        "id": deliveries.order_id(first),
        "workspaceId": delivery.workspace_id,
        "accountId": deliveries.account_id,
        "type": "TASKING" if is_tasking else "ARCHIVE",
        "status": order_status(deliveries, first),
        "displayName": f"order {first}",
        "dataProductId": delivery.product_id,
        "tags": None if delivery.tags is None else list(delivery.tags),
        "budgetId": None,
        "createdAt": micros(created),
        "updatedAt": micros(delivery.updated_at),
        "createdBy": person,
        "updatedBy": person,
        "orderDetails": tasking if is_tasking else archive,
    }


def job_document(deliveries: Deliveries, number: int, base_url: str) -> Json:
    """Return the processing job that produced delivery *number*, or that has failed to produce it."""
    scenario, delivery = deliveries.scenario(number), deliveries.delivery(number)
    rng = random.Random(f"{deliveries.seed}/{number}/job")
    created = delivery.created_at - timedelta(minutes=rng.randrange(3, 90))
    status = scenario.job_status
    is_running = status == "running"
    started = created + timedelta(seconds=5) if is_running or scenario.has_result else None
    collections = f"{base_url}/v2/assets/stac/collections"
    results: Json = None
    if delivery.collection_id:
        results = {"collection": f"{collections}/{delivery.collection_id}"}
    elif not is_running:
        errors = [{"name": "MissingPanchromaticAsset", "message": "The item has no panchromatic asset."}]
        results = {"collection": None, "errors": errors}
    first = deliveries.delivery(0)
    inputs: dict[str, Json] = {"title": f"job {number}"}
    if items := deliveries.items(0):  # they can be deleted
        inputs["item"] = f"{collections}/{first.collection_id}/items/{items[0].id}"
    return {
        "processID": rng.choice(_PROCESSES),
        "jobID": deliveries.job_id(number),
        "accountID": deliveries.account_id,
        "workspaceID": delivery.workspace_id,
        "definition": {"inputs": inputs},
        "results": results,
        "creditConsumption": {"credits": 100} if scenario.has_result else None,
        "status": status,
        "created": nanos(created),
        "started": nanos(started) if started else None,
        "finished": None if is_running else nanos(deliveries.finished_at(number)),
        "updated": nanos(delivery.updated_at),
    }


def micros(timestamp: datetime) -> str:
    return timestamp.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanos(timestamp: datetime) -> str:
    return timestamp.strftime("%Y-%m-%dT%H:%M:%S.%f") + "789Z"
