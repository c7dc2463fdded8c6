"""List the outputs of one delivery, and the documents to store next to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bulkdl.errors import ApiError
from bulkdl.models import Container
from bulkdl.sources.up42_storage import decode
from bulkdl.sources.up42_storage.client import StorageClient, is_listing_withdrawn
from bulkdl.sources.up42_storage.containers import asset_id_of_container, original_of
from bulkdl.sources.up42_storage.documents import describe_delivery
from bulkdl.sources.up42_storage.item_search import ItemList, ItemSearch
from bulkdl.sources.up42_storage.models import Collection, Original
from bulkdl.sources.up42_storage.paths import ApiUrls
from bulkdl.sources.up42_storage.planning import (
    ASSET_DOCUMENT,
    COLLECTION_DOCUMENT,
    DELIVERY_DOCUMENT,
    DOCUMENTS,
    ITEM_DOCUMENT,
    DeliveryFile,
    plan_delivery,
    plan_original,
)
from bulkdl.sources.up42_storage.signed_urls import SignedUrls
from bulkdl.sources.up42_storage.spec import ORIGINAL

_LABEL = "delivery"


@dataclass(frozen=True, slots=True)
class DeliveryListing:
    """
    The content of one delivery.

    Attributes:
        files: All files, or only the original if nothing else was requested.
        documents: The responses to store, by their path in the folder of the delivery.
        are_items_listed: Whether the items were requested.
        problems: Why items are unreadable.
    """

    files: tuple[DeliveryFile, ...]
    documents: Mapping[str, bytes]
    are_items_listed: bool
    problems: tuple[str, ...] = ()


class DeliveryLister:
    """Lists deliveries of one account. All workers share an instance."""

    def __init__(
        self,
        client: StorageClient,
        urls: ApiUrls,
        reserved: frozenset[str] = DOCUMENTS,
        signed_urls: SignedUrls | None = None,
    ) -> None:
        """
        Create a lister.

        Args:
            reserved: The names of the stored documents, in lower case.
            signed_urls: Keeps the URLs that are requested for names.
        """
        self._client = client
        self._signed_urls = signed_urls or SignedUrls(client)
        self._reserved = reserved
        self._search = ItemSearch(client)
        self._urls = urls

    def announce_delivery(self, container: Container, kinds: frozenset[str]) -> None:
        """Include the items of *container* in the next search. ``list_delivery`` must follow soon."""
        if asset_id_of_container(container.ref) is not None or not container.document:
            return
        if kinds == frozenset({ORIGINAL}):
            collection = decode.collection(dict(container.document), self._urls, _LABEL)
            if _has_original(collection, original_of(container, collection)):
                return
        self._search.announce([container.ref.id])

    async def list_delivery(self, container: Container, kinds: frozenset[str]) -> DeliveryListing:
        """
        List the files of *container*.

        Args:
            kinds: The requested kinds. The items are not requested for the original alone.

        Raises:
            ApiError: A request failed.
        """
        asset_id = asset_id_of_container(container.ref)
        if asset_id is not None:
            return await self._list_original(container, asset_id)
        collection = await self._collection(container)
        original = await self._original(container, collection)
        wants_items = kinds != frozenset({ORIGINAL}) or not _has_original(collection, original)
        items = await self._search.items(collection.id) if wants_items else ItemList()
        plan = plan_delivery(collection, list(items.items.values()), original, self._reserved)
        documents = {
            COLLECTION_DOCUMENT: encode_document(collection.document),
            DELIVERY_DOCUMENT: encode_document(
                describe_delivery(container, plan.item_folders, original.name if original else "")
            ),
        }
        documents |= {
            f"{plan.item_folders[identity]}/{ITEM_DOCUMENT}": encode_document(item.document)
            for identity, item in items.items.items()
        }
        return DeliveryListing(plan.files, documents, wants_items, tuple(items.problems))

    async def _list_original(self, container: Container, asset_id: str) -> DeliveryListing:
        """List an original without a collection."""
        if container.document:
            original = decode.original(dict(container.document), _LABEL)
        else:
            original = await self._client.original(asset_id)
        fallback = "" if original.name else await self._name_from_url(asset_id)
        files = plan_original(original, fallback, self._reserved)
        documents = {
            ASSET_DOCUMENT: encode_document(original.document),
            DELIVERY_DOCUMENT: encode_document(describe_delivery(container, {}, fallback)),
        }
        return DeliveryListing(files, documents, are_items_listed=True)

    async def _collection(self, container: Container) -> Collection:
        if container.document:
            return decode.collection(dict(container.document), self._urls, _LABEL)
        return await self._client.collection(container.ref.id)

    async def _original(self, container: Container, collection: Collection) -> Original | None:
        """
        Return the entry of the original in the list of assets.

        A container that was just listed has its values. Other containers need a request.
        """
        original = original_of(container, collection)
        if original is None:
            if container.document or collection.asset_id is None:
                return None
            try:
                original = await self._client.original(collection.asset_id)
            except ApiError as failure:
                if not is_listing_withdrawn(failure):
                    raise
                return None
        is_named = bool(original.name) or any(asset.asset_id == original.id for asset in collection.assets)
        return original if is_named else replace(original, name=await self._name_from_url(original.id))

    async def _name_from_url(self, asset_id: str) -> str:
        """Return the file name in a signed URL; empty if there is none."""
        return name_in_url(await self._signed_urls.request_early(asset_id))


def _has_original(collection: Collection, original: Original | None) -> bool:
    return original is not None or any("original" in asset.roles for asset in collection.assets)


def name_in_url(url: str) -> str:
    """Return the file name in the ``response-content-disposition`` of a signed URL (untrusted)."""
    values = parse_qs(urlsplit(url).query).get("response-content-disposition", [""])
    for parameter in values[0].split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name.strip().lower() == "filename":
            return value.strip().strip('"')
    return ""


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return *document* as UP42 sent it, as JSON text."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
