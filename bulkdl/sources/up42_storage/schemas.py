"""
Pydantic models of the JSON objects. They declare only the fields that bulkdl uses.

Only the ID of an entry must be valid. Any other field of an unexpected type counts as missing, because a
field that only names or describes a delivery must not prevent its download.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from bulkdl.sources.up42_common.fields import (
    Document,
    Identity,
    Text,
    Timestamp,
    is_collection_identity,
    is_identity,
)

_MAX_TEXT = 1024
_MAX_INT = 1 << 62
_TIMESTAMP: TypeAdapter[Any] = TypeAdapter(Timestamp)


def _optional_text(value: Any) -> str:
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _optional_identity(value: Any) -> str | None:
    return value if is_identity(value) else None


def _optional_asset_id(value: Any) -> str | None:
    return value.lower() if is_identity(value) else None


def _optional_word(value: Any) -> str:
    text = value[:64] if isinstance(value, str) else ""
    return "_".join(text.upper().replace("_", " ").split()) if text.isprintable() else ""


def _optional_size(value: Any) -> int | None:
    is_size = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_INT
    return value if is_size else None


def _optional_timestamp(value: Any) -> Any:
    try:
        return _TIMESTAMP.validate_python(value)
    except ValidationError:
        return None


def _check_collection_identity(value: Any) -> Any:
    if not is_collection_identity(value):
        raise ValueError("invalid ID: expected 1 to 128 characters of A-Z, a-z, 0-9, . _ and -")
    return value


def _optional_object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


OptionalText = Annotated[Text, BeforeValidator(_optional_text)]
OptionalIdentity = Annotated[str | None, BeforeValidator(_optional_identity)]
OptionalAssetId = Annotated[str | None, BeforeValidator(_optional_asset_id)]
OptionalWord = Annotated[str, BeforeValidator(_optional_word)]
OptionalSize = Annotated[int | None, BeforeValidator(_optional_size)]
OptionalTimestamp = Annotated[Any, BeforeValidator(_optional_timestamp)]
OptionalObject = Annotated[dict[str, Any], BeforeValidator(_optional_object)]
CollectionIdentity = Annotated[str, BeforeValidator(_check_collection_identity)]


class OriginalDocument(Document):
    id: Identity
    workspace_id: OptionalIdentity = Field(None, alias="workspaceId")
    created_at: OptionalTimestamp = Field(None, alias="createdAt")
    name: OptionalText = ""
    title: OptionalText = ""
    media_type: OptionalText = Field("", alias="contentType")
    size_bytes: OptionalSize = Field(None, alias="size")
    order_id: OptionalIdentity = Field(None, alias="orderId")
    order: OptionalObject = Field({})  # until 2022
    collection_name: OptionalText = Field("", alias="collectionName")
    extraction_status: OptionalWord = Field("", alias="geospatialMetadataExtractionStatus")


class _Up42Fields(Document):
    """Fields of the STAC extensions of UP42."""

    workspace_id: OptionalIdentity = Field(None, alias="up42-system:workspace_id")
    asset_id: OptionalAssetId = Field(None, alias="up42-system:asset_id")
    job_id: OptionalIdentity = Field(None, alias="up42-system:job_id")
    order_id: OptionalIdentity = Field(None, alias="up42-order:id")
    order_status: OptionalWord = Field("", alias="up42-order:status")
    user_title: OptionalText = Field("", alias="up42-user:title")
    collection_name: OptionalText = Field("", alias="up42-product:collection_name")
    title: OptionalText = ""


class CollectionDocument(_Up42Fields):
    id: CollectionIdentity
    assets: OptionalObject = Field({})


class ItemProperties(_Up42Fields):
    pass


class ItemDocument(Document):
    id: Text = Field(min_length=1, max_length=512)
    collection: CollectionIdentity
    properties: OptionalObject = Field({})
    assets: OptionalObject = Field({})


class JobDocument(Document):
    id: Identity = Field(alias="jobID")
    workspace_id: OptionalIdentity = Field(None, alias="workspaceID")
    process_id: OptionalText = Field("", alias="processID")
    status: OptionalWord = ""
    created_at: OptionalTimestamp = Field(None, alias="created")
    finished_at: OptionalTimestamp = Field(None, alias="finished")
    definition: OptionalObject = Field({})
    results: OptionalObject = Field({})


class OrderDocument(Document):
    id: Identity
    workspace_id: OptionalIdentity = Field(None, alias="workspaceId")
    display_name: OptionalText = Field("", alias="displayName")
    status: OptionalWord = ""
    created_at: OptionalTimestamp = Field(None, alias="createdAt")
