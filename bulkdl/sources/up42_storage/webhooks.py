"""
Client of UP42's webhooks: list, create, change, delete, and send test events.

A webhook belongs to one workspace. All responses have the envelope ``{"data", "error"}``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field, SecretStr
from yarl import URL

from bulkdl.errors import ApiError
from bulkdl.sources.up42_common.fields import Document, Identity, Text
from bulkdl.sources.up42_common.json_client import JsonClient
from bulkdl.sources.up42_common.json_documents import invalid_document, json_type, read_document
from bulkdl.sources.up42_storage.client import StorageClient, is_listing_withdrawn
from bulkdl.sources.up42_storage.paths import segment

_T = TypeVar("_T")

EVENTS = ("order.status", "job.status")
MAX_SECRET_CHARS = 500


class WebhookDocument(Document):
    """A webhook as UP42 returns it, without its secret."""

    id: Identity
    url: Text
    name: Text = ""
    events: tuple[Text, ...] = ()
    active: bool = False


class DeliveryReportDocument(Document):
    """The result of test events."""

    tests_run: int = Field(0, alias="testsRun")
    tests_succeeded: int = Field(0, alias="testsSucceeded")


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook of a workspace."""

    id: str
    workspace_id: str
    url: str
    name: str
    events: tuple[str, ...]
    is_active: bool


class WebhookClient:
    """The webhooks of one account."""

    def __init__(self, json_client: JsonClient, api_url: str) -> None:
        self._json = json_client
        self._base = api_url.rstrip("/")

    async def list_webhooks(self, workspace_id: str) -> list[Webhook]:
        """Return the webhooks of a workspace."""

        def read(document: object, label: str) -> list[Webhook]:
            data = _read_data(document, label)
            if not isinstance(data, list):
                raise invalid_document(label, "data", f"expected a list, got {json_type(data)}")
            return [_read_webhook(entry, label, workspace_id) for entry in data]

        return await self._send("GET", self._url(workspace_id), read)

    async def create(self, workspace_id: str, url: str, name: str, secret: SecretStr | None) -> Webhook:
        """Create an active webhook for all events. The request is not repeated after a failure."""
        return await self._send(
            "POST",
            self._url(workspace_id),
            _webhook_reader(workspace_id),
            payload=_payload(url, name, secret),
            is_repeatable=False,
        )

    async def change(self, webhook: Webhook, name: str, secret: SecretStr | None) -> Webhook:
        """Activate a webhook for all events, and replace its secret."""
        return await self._send(
            "PUT",
            self._url(webhook.workspace_id, webhook.id),
            _webhook_reader(webhook.workspace_id),
            payload=_payload(webhook.url, name, secret),
        )

    async def delete(self, webhook: Webhook) -> None:
        """Delete a webhook."""
        await self._send("DELETE", self._url(webhook.workspace_id, webhook.id), lambda *_response: None)

    async def send_tests(self, webhook: Webhook) -> tuple[int, int]:
        """Let UP42 send one test event for each event; return how many succeeded, of how many."""

        def read(document: object, label: str) -> tuple[int, int]:
            report = read_document(DeliveryReportDocument, _read_data(document, label), label, "data")
            return report.tests_succeeded, report.tests_run

        return await self._send(
            "POST", self._url(webhook.workspace_id, webhook.id, "tests"), read, is_repeatable=False
        )

    async def _send(self, method: str, url: URL, read: Callable[[object, str], _T], **options: Any) -> _T:
        result, _ = await self._json.request(method, url, read, **options)
        return result

    def _url(self, workspace_id: str, *parts: str) -> URL:
        path = "/".join(["workspaces", segment(workspace_id), "webhooks", *map(segment, parts)])
        return URL(f"{self._base}/{path}", encoded=True)


async def find_workspaces(client: StorageClient) -> list[str]:
    """
    Return the workspaces of all deliveries, orders and processing jobs of an account.

    Raises:
        ApiError: A list cannot be read.
    """
    found: dict[str, None] = {}
    for pages in (client.original_pages(), client.order_pages(), client.job_pages()):
        try:
            async for page in pages:
                ids = (getattr(entry, "workspace_id", None) for entry in page)
                found.update({workspace_id: None for workspace_id in ids if workspace_id})
        except ApiError as failure:
            if not is_listing_withdrawn(failure):
                raise
    return list(found)


def _payload(url: str, name: str, secret: SecretStr | None) -> dict[str, Any]:
    payload: dict[str, Any] = {"name": name, "url": url, "events": list(EVENTS), "active": True}
    return payload if secret is None else {**payload, "secret": secret.get_secret_value()}


def _webhook_reader(workspace_id: str) -> Callable[[object, str], Webhook]:
    def read(document: object, label: str) -> Webhook:
        return _read_webhook(_read_data(document, label), label, workspace_id)

    return read


def _read_data(document: object, label: str) -> object:
    if not isinstance(document, dict):
        raise invalid_document(label, "", f"expected an object, got {json_type(document)}")
    return document.get("data")


def _read_webhook(entry: object, label: str, workspace_id: str) -> Webhook:
    fields = read_document(WebhookDocument, entry, label, "data")
    return Webhook(fields.id, workspace_id, fields.url, fields.name, tuple(fields.events), fields.active)
