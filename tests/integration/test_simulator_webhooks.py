"""Test the webhooks of the simulator with a receiver on a real socket."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from support.storage_client import StorageClient, storage_client

SECRET = "a secret"


@asynccontextmanager
async def receiver(status: int = 204) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Run a server that records each request (headers, body) and yield its URL and the records."""
    received: list[tuple[dict[str, str], bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        received.append(
            ({key.lower(): value for key, value in request.headers.items()}, await request.read())
        )
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/hook", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", received
    finally:
        await runner.cleanup()


def path(client: StorageClient, *more: str, workspace: str = "") -> str:
    workspace = workspace or client.simulator.account.user_id
    return "/".join([f"/workspaces/{workspace}/webhooks", *more])


def fields(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "mine", "url": url, "events": ["order.status"], "secret": SECRET, "active": True, **more}


def assert_signed(headers: dict[str, str], body: bytes, secret: str) -> None:
    """Verify as the documentation describes: HMAC of the values of the listed headers."""
    names = re.findall(r'"([^"]+)"', headers["signature-input"].partition(")")[0])
    text = "".join(headers[name] for name in names)
    expected = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
    assert headers["signature"].partition("=")[2] == expected
    assert re.search(r"created=\d{10}", headers["signature-input"])
    assert "digest" in names
    assert headers["digest"] == "SHA-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode()


async def test_webhook_can_be_created_read_changed_and_deleted() -> None:
    async with storage_client() as client:
        events = (await client.get("/webhooks/events"))["data"]
        assert {event["name"] for event in events} == {"order.status", "job.status"}
        assert (await client.get(path(client)))["data"] == []
        created = (await client.post(path(client), fields("https://example.org/x")))["data"]
        assert {key: created[key] for key in fields("")} == fields("https://example.org/x")
        assert (await client.get(path(client)))["data"] == [created]
        status, changed = await client.send(
            "PUT", path(client, created["id"]), json=fields("https://example.org/y", active=False)
        )
        assert status == 200
        assert (changed["data"]["url"], changed["data"]["active"]) == ("https://example.org/y", False)
        assert (await client.get(path(client, created["id"])))["data"] == changed["data"]
        assert (await client.send("DELETE", path(client, created["id"])))[0] == 204
        assert (await client.send("GET", path(client, created["id"])))[0] == 404


async def test_webhooks_belong_to_their_workspace() -> None:
    async with storage_client() as client:
        created = (await client.post(path(client), fields("https://example.org/x")))["data"]
        other = client.simulator.account.deliveries.workspace_id(1)
        assert (await client.get(path(client, workspace=other)))["data"] == []
        assert (await client.send("GET", path(client, created["id"], workspace=other)))[0] == 404
        assert (await client.send("GET", path(client, workspace="x")))[0] == 404


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"url": "ftp://x"}, {"events": []}, {"events": ["other"]}, {"secret": "x" * 501}]
)
async def test_webhook_invalid_fields_are_rejected_in_the_envelope(change: dict[str, Any]) -> None:
    async with storage_client() as client:
        status, document = await client.send("POST", path(client), json=fields("https://x.example") | change)
        assert status == 400
        assert document["data"] is None
        assert document["error"]["message"]


async def test_webhook_test_sends_a_signed_event_for_each_event() -> None:
    async with storage_client() as client, receiver() as (url, received):
        body = fields(url, events=["order.status", "job.status"])
        webhook = (await client.post(path(client), body))["data"]
        report = (await client.post(path(client, webhook["id"], "tests")))["data"]
        assert (report["testsRun"], report["testsSucceeded"], report["testsFailed"]) == (2, 2, 0)
        assert [json.loads(data)["event"] for _, data in received] == ["order.status", "job.status"]
        for headers, data in received:
            assert_signed(headers, data, SECRET)
            document = json.loads(data)
            assert list(document) == ["event", "liveMode", "messageId", "timestamp", "body"]
            assert document["liveMode"] is False


@pytest.mark.parametrize("kind", ["refused", "error"])
async def test_webhook_test_reports_a_failed_delivery(kind: str) -> None:
    async with storage_client() as client, receiver(500) as (url, _):
        target = url if kind == "error" else "http://127.0.0.1:1/hook"
        webhook = (await client.post(path(client), fields(target)))["data"]
        report = (await client.post(path(client, webhook["id"], "tests")))["data"]
        assert (report["testsSucceeded"], report["testsFailed"]) == (0, 1)
        (test,) = report["tests"]
        assert (test["response"] is None) == (kind == "refused")


async def test_event_without_secret_has_no_signature() -> None:
    async with storage_client() as client, receiver() as (url, received):
        webhook = (await client.post(path(client), fields(url, secret=None)))["data"]
        await client.post(path(client, webhook["id"], "tests"))
        assert "signature" not in received[0][0]


async def test_send_event_reaches_the_active_webhooks_of_the_workspace() -> None:
    async with storage_client() as client, receiver() as (url, received):
        order = (await client.get("/v2/orders"))["content"][0]
        job = (await client.get("/v2/processing/jobs"))["jobs"][0]
        for number in range(3):
            workspace = client.simulator.account.deliveries.workspace_id(number)
            events = ["order.status", "job.status"]
            await client.post(path(client, workspace=workspace), fields(url, events=events))
            await client.post(path(client, workspace=workspace), fields(url, events=events, active=False))
        (record,) = await client.simulator.send_event(order["id"])
        assert record["success"]
        await client.simulator.send_event(job["jobID"])
        first, second = (json.loads(data) for _, data in received)
        assert (first["event"], first["liveMode"]) == ("order.status", True)
        assert first["body"]["orderId"] == order["id"]
        assert first["body"]["status"] == order["status"] == "BEING_FULFILLED"
        assert first["body"]["statusIsFinal"] is False
        assert second["body"] == {"jobId": job["jobID"], "status": job["status"]}
        client.simulator.add_assets(1)
        await client.simulator.send_event(order["id"])
        assert json.loads(received[-1][1])["body"]["statusIsFinal"] is True
