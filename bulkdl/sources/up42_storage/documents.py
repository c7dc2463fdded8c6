"""
Read a delivery and its outputs from stored documents, to rebuild a lost ledger.

``collection.json``, ``item.json`` and ``asset.json`` are as UP42 returned them. ``delivery.json`` describes a
delivery as bulkdl listed it: the values that come from other lists, and the folders of the items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from bulkdl.errors import ApiError
from bulkdl.listings import ContainerListing, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, Output, Reason
from bulkdl.settings.path_templates import reserved_names
from bulkdl.sources.interfaces import ContainerKey, DocumentMissingError, ReadDocument
from bulkdl.sources.path_values import fill_template
from bulkdl.sources.up42_common.json_documents import parse_json, read_document
from bulkdl.sources.up42_storage import decode
from bulkdl.sources.up42_storage.containers import (
    ASSET_PREFIX,
    NO_WORKSPACE,
    collection_container,
    original_container,
    original_of,
)
from bulkdl.sources.up42_storage.models import Collection, Item
from bulkdl.sources.up42_storage.paths import ApiUrls
from bulkdl.sources.up42_storage.planning import DeliveryFile, plan_delivery, plan_original
from bulkdl.sources.up42_storage.spec import KINDS

# The hrefs of a stored document contain the host of UP42, or the host from which it was downloaded.
ANY_HOST = ApiUrls("https://any.invalid", any_host=True)


class DeliveryDocument(BaseModel):
    """The content of ``delivery.json``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: str = ""
    created_at: AwareDatetime
    name: str | None = None
    attributes: dict[str, str] = Field({})
    original_name: str = Field("", description="name of the original, which can be from its signed URL")
    items: dict[str, str] = Field({}, description="folder of each item by its ID")
    path_values: dict[str, str] = Field({}, description="names and dates in the paths of the delivery")


def describe_delivery(
    container: Container, item_folders: Mapping[str, str], original_name: str = ""
) -> dict[str, Any]:
    """
    Return the content of ``delivery.json``.

    Args:
        original_name: The name of the original, which can be from its signed URL; empty if it has none.
    """
    document = DeliveryDocument(
        status=container.status,
        created_at=container.created_at,
        name=container.name,
        attributes=dict(container.attributes),
        original_name=original_name,
        items=dict(item_folders),
        path_values=dict(container.path_values),
    )
    return document.model_dump(mode="json", exclude=None if container.path_values else {"path_values"})


def parse_key(key: str, fields: Mapping[str, str]) -> ContainerKey:
    """Return the delivery of *key*, which matches a path template with *fields*."""
    asset_id, collection_id = fields.get("asset_id"), fields.get("collection_id", "")
    container_id = collection_id if asset_id is None else ASSET_PREFIX + asset_id
    return ContainerKey(key, container_id, fields.get("workspace_id"))


def read_listing(
    container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
) -> ContainerListing:
    """
    Return the delivery with the document *container*, and its outputs.

    Raises:
        ApiError: A document is missing or invalid.
    """
    if container.container_id.startswith(ASSET_PREFIX):
        return _read_original(container, templates, read)
    key = container.key
    stored = read_document(DeliveryDocument, parse_json(read(key), key), key, "delivery")
    fields = {
        **stored.path_values,
        **container.path_values,
        "workspace_id": container.scope or NO_WORKSPACE,
        "collection_id": container.container_id,
    }
    collection_key = fill_template(templates["collection"], fields)
    collection = decode.collection(parse_json(read(collection_key), collection_key), ANY_HOST, collection_key)
    _check_id(collection_key, collection.id, container.container_id)
    found = _restore(collection, stored, container.path_values)
    items = list(_read_items(stored.items, fields, templates["item"], read))
    original = original_of(found, collection)
    if original is not None and not original.name and stored.original_name:
        original = replace(original, name=stored.original_name)
    files = plan_delivery(collection, items, original, reserved_names(templates)).files
    return _listing(found, files)


def _read_original(
    container: ContainerKey, templates: Mapping[str, str], read: ReadDocument
) -> ContainerListing:
    key = container.key
    original = decode.original(parse_json(read(key), key), key)
    _check_id(key, ASSET_PREFIX + original.id, container.container_id)
    fields = {
        **container.path_values,
        "workspace_id": container.scope or NO_WORKSPACE,
        "asset_id": original.id,
    }
    delivery_key = fill_template(templates["asset_delivery"], fields)
    found, name = original_container(original, None), ""
    try:
        document = parse_json(read(delivery_key), delivery_key)
    except DocumentMissingError:  # written by an earlier version
        pass
    else:
        stored = read_document(DeliveryDocument, document, delivery_key, "delivery")
        found = _with_stored_values(found, stored, container.path_values)
        name = stored.original_name
    return _listing(found, plan_original(original, name, reserved_names(templates)))


def _restore(collection: Collection, stored: DeliveryDocument, path_values: Mapping[str, str]) -> Container:
    found = collection_container(collection, None, None, None)
    if isinstance(found, UnreadableContainer):
        raise ApiError(Reason.INVALID_RESPONSE, found.problem)
    return _with_stored_values(found, stored, path_values)


def _with_stored_values(
    container: Container, stored: DeliveryDocument, path_values: Mapping[str, str]
) -> Container:
    created_at: datetime = stored.created_at
    return replace(
        container,
        status=stored.status,
        created_at=created_at,
        name=stored.name or container.name,
        attributes=stored.attributes,
        path_values={**stored.path_values, **path_values},
    )


def _read_items(
    folders: Mapping[str, str], fields: Mapping[str, str], template: str, read: ReadDocument
) -> Iterator[Item]:
    for item_id, folder in folders.items():
        if folder in ("", ".", "..") or "/" in folder or "\\" in folder:
            raise ApiError(Reason.INVALID_RESPONSE, f"the folder of an item is invalid: {folder[:60]!r}")
        key = fill_template(template, {**fields, "item_id": folder})
        item = decode.item(parse_json(read(key), key), ANY_HOST, key)
        _check_id(key, item.id, item_id)
        yield item


def _check_id(key: str, found: str, expected: str) -> None:
    if found != expected:
        raise ApiError(
            Reason.INVALID_RESPONSE, f"{key}: expected the ID {expected[:80]!r}, got {found[:80]!r}"
        )


def _listing(container: Container, files: tuple[DeliveryFile, ...]) -> ContainerListing:
    return ContainerListing(
        container, tuple(plan_output(container, file) for file in files), frozenset(KINDS), {}
    )


def plan_output(container: Container, file: DeliveryFile) -> PlannedOutput:
    """Return *file* of *container* as a planned output."""
    output = Output(container.ref, file.item_id, file.kind, file.name)
    return PlannedOutput(output, file.path, identity=file.asset_id, path_values=container.path_values)
