"""
Register webhooks and send events to them.

All endpoints use the envelope ``{"data", "error"}``. ``GET /webhooks/events``: the events. ``GET|POST
/workspaces/{w}/webhooks``: list and create, with ``{"name", "url", "events", "secret", "active"}``.
``GET|PUT|DELETE …/{id}``: one webhook. ``POST …/{id}/tests``: send a test event for each event of the
webhook.

An event is a POST of ``{"event", "liveMode", "messageId", "timestamp", "body"}``. With a secret it has the
headers ``signature-input: up42-sig=("digest" "content-type");created=SECONDS`` and ``signature:
up42-sig=BASE64``: HMAC-SHA256 of the values of the named headers, concatenated in this order. ``digest`` is
the SHA-256 of the body. UP42 requires https; the simulator also accepts http.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from bulkdl.simulator.documents import Json, dump
from bulkdl.simulator.messages import Reply
from bulkdl.simulator.v2.deliveries import WORKSPACES, Deliveries
from bulkdl.simulator.v2.documents import job_document, micros, order_document
from bulkdl.simulator.v2.messages import ApiRequest, RequestRejected, create_reply, read_object

ORDER_EVENT, JOB_EVENT = "order.status", "job.status"
_EVENTS = {ORDER_EVENT: "Order status", JOB_EVENT: "Job status"}
_SIGNED_HEADERS = ("digest", "content-type")
_TIMEOUT_S = 10
_MAX_WEBHOOKS = 100
_MAX_SECRET_CHARS = 500
_FINAL_ORDER_STATUSES = frozenset({"FULFILLED", "FAILED_PERMANENTLY", "CANCELED"})
_TEST_BODIES: dict[str, Json] = {
    ORDER_EVENT: {
        "orderId": "00000000-0000-0000-0000-000000000001",
        "orderType": "TASKING",
        "dataHostName": "test-up42-host-name",
        "status": "FULFILLED",
        "statusIsFinal": True,
    },
    JOB_EVENT: {"jobId": "00000000-0000-0000-0000-000000000001", "status": "SUCCEEDED"},
}


@dataclass(frozen=True, slots=True)
class Webhook:
    id: str
    workspace_id: str
    name: str
    url: str
    events: tuple[str, ...]
    secret: str | None
    is_active: bool
    created_at: datetime
    updated_at: datetime

    @property
    def document(self) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url,
            "events": list(self.events),
            "secret": self.secret,
            "active": self.is_active,
            "createdAt": micros(self.created_at),
            "updatedAt": micros(self.updated_at),
        }


class Webhooks:
    """The webhooks of all workspaces of an account."""

    def __init__(self, read_deliveries: Callable[[], Deliveries]) -> None:
        self._read_deliveries = read_deliveries
        self._webhooks: dict[str, Webhook] = {}
        self.endpoints: dict[
            tuple[str, str], Callable[[ApiRequest], Reply] | Callable[[ApiRequest], Awaitable[Reply]]
        ] = {
            ("webhook_events", "GET"): self._events,
            ("webhooks", "GET"): self._list,
            ("webhooks", "POST"): self._create,
            ("webhook", "GET"): self._get,
            ("webhook", "PUT"): self._change,
            ("webhook", "DELETE"): self._delete,
            ("webhook_tests", "POST"): self._send_tests,
        }

    async def send_order_event(self, order_id: str) -> list[Json]:
        """Send the current status of an order to the active webhooks of its workspace."""
        index = self._read_deliveries().ids.decode(order_id)
        if index is None:
            raise KeyError(order_id)
        order = order_document(self._read_deliveries(), index.job)
        body = {
            "orderId": order_id,
            "orderType": order["type"],
            "dataHostName": "simulator",
            "status": order["status"],
            "statusIsFinal": order["status"] in _FINAL_ORDER_STATUSES,
        }
        return await self._send(ORDER_EVENT, body, order["workspaceId"])

    async def send_job_event(self, job_id: str) -> list[Json]:
        """Send the current status of a processing job to the active webhooks of its workspace."""
        index = self._read_deliveries().ids.decode(job_id)
        if index is None:
            raise KeyError(job_id)
        job = job_document(self._read_deliveries(), index.job, "")
        return await self._send(JOB_EVENT, {"jobId": job_id, "status": job["status"]}, job["workspaceID"])

    async def _send(self, event: str, body: Json, workspace_id: str) -> list[Json]:
        receivers = [
            webhook
            for webhook in self._webhooks.values()
            if webhook.is_active and event in webhook.events and webhook.workspace_id == workspace_id
        ]
        return list(
            await asyncio.gather(*(_deliver(webhook, event, body, live=True) for webhook in receivers))
        )

    def _events(self, _request: ApiRequest) -> Reply:
        events = [
            {"name": name, "title": title, "category": "status", "description": title, "documentation": ""}
            for name, title in _EVENTS.items()
        ]
        return _create_envelope(events)

    def _list(self, request: ApiRequest) -> Reply:
        workspace_id = self._require_workspace(request)
        own = [webhook for webhook in self._webhooks.values() if webhook.workspace_id == workspace_id]
        return _create_envelope([webhook.document for webhook in own])

    def _create(self, request: ApiRequest) -> Reply:
        workspace_id = self._require_workspace(request)
        if len(self._webhooks) >= _MAX_WEBHOOKS:
            raise RequestRejected(409, f"the account has {_MAX_WEBHOOKS} webhooks")
        now = datetime.now(UTC)
        webhook = Webhook(
            str(uuid.uuid4()), workspace_id, **_read_fields(request), created_at=now, updated_at=now
        )
        self._webhooks[webhook.id] = webhook
        return _create_envelope(webhook.document)

    def _get(self, request: ApiRequest) -> Reply:
        return _create_envelope(self._require_webhook(request).document)

    def _change(self, request: ApiRequest) -> Reply:
        old = self._require_webhook(request)
        webhook = replace(old, **_read_fields(request), updated_at=datetime.now(UTC))
        self._webhooks[webhook.id] = webhook
        return _create_envelope(webhook.document)

    def _delete(self, request: ApiRequest) -> Reply:
        del self._webhooks[self._require_webhook(request).id]
        return Reply(204)

    async def _send_tests(self, request: ApiRequest) -> Reply:
        webhook = self._require_webhook(request)
        started = micros(datetime.now(UTC))
        tests = [await _deliver(webhook, event, _TEST_BODIES[event], live=False) for event in webhook.events]
        succeeded = sum(test["success"] for test in tests)
        return _create_envelope(
            {
                "startedAt": started,
                "testsRun": len(tests),
                "testsSucceeded": succeeded,
                "testsFailed": len(tests) - succeeded,
                "tests": tests,
            }
        )

    def _require_workspace(self, request: ApiRequest) -> str:
        deliveries = self._read_deliveries()
        workspace_id = request.parameters["workspace"]
        if workspace_id not in {deliveries.workspace_id(number) for number in range(WORKSPACES)}:
            raise RequestRejected(404, f"Workspace {workspace_id} not found")
        return workspace_id

    def _require_webhook(self, request: ApiRequest) -> Webhook:
        workspace_id = self._require_workspace(request)
        webhook = self._webhooks.get(request.parameters["webhook"])
        if webhook is None or webhook.workspace_id != workspace_id:
            raise RequestRejected(404, f"Webhook {request.parameters['webhook']} not found")
        return webhook


def sign_event(secret: str, headers: dict[str, str], created: int) -> dict[str, str]:
    """Return the two headers that authenticate an event with *headers*."""
    names = " ".join(f'"{name}"' for name in _SIGNED_HEADERS)
    text = "".join(headers[name] for name in _SIGNED_HEADERS)
    signature = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
    return {
        "signature-input": f"up42-sig=({names});created={created}",
        "signature": f"up42-sig={signature}",
    }


async def _deliver(webhook: Webhook, event: str, body: Json, *, live: bool) -> Json:
    """Send one event and return the record of this delivery."""
    now = micros(datetime.now(UTC))
    document = {
        "event": event,
        "liveMode": live,
        "messageId": str(uuid.uuid4()),
        "timestamp": now,
        "body": body,
    }
    data = dump(document)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {"content-type": "application/json", "digest": f"SHA-256={digest}"}
    if webhook.secret:
        headers |= sign_event(webhook.secret, headers, int(time.time()))
    response, message = await _post(webhook.url, data, headers)
    return {
        "startedAt": now,
        "eventName": event,
        "success": response is not None and 200 <= response["status"] < 300,
        "message": message,
        "request": {"headers": headers, "body": document},
        "response": response,
    }


async def _post(url: str, data: bytes, headers: dict[str, str]) -> tuple[Json, str | None]:
    """Return the response, or None and the problem."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            text = (await response.content.read(10_000)).decode("utf-8", "replace")
            return {"status": response.status, "headers": dict(response.headers), "body": text}, None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return None, str(error) or type(error).__name__


def _read_fields(request: ApiRequest) -> dict[str, Any]:
    """Return the fields of a webhook in the body of *request*. Raises: RequestRejected."""
    body = read_object(request)
    name, url, events, secret = (body.get(key) for key in ("name", "url", "events", "secret"))
    if not isinstance(name, str) or not name:
        raise RequestRejected(400, "name is required")
    if not isinstance(url, str) or urlsplit(url).scheme not in {"https", "http"}:
        raise RequestRejected(400, "url is not valid")
    if not isinstance(events, list) or not events or not set(map(str, events)) <= set(_EVENTS):
        raise RequestRejected(400, f"events must be of {', '.join(_EVENTS)}")
    if secret is not None and (not isinstance(secret, str) or len(secret) > _MAX_SECRET_CHARS):
        raise RequestRejected(400, "secret is not valid")
    return {
        "name": name,
        "url": url,
        "events": tuple(map(str, events)),
        "secret": secret or None,
        "is_active": body.get("active") is True,
    }


def _create_envelope(data: Json) -> Reply:
    return create_reply({"data": data, "error": None})
