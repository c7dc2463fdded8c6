"""Test the receiver of UP42 events on a real socket, with events that the simulator signs."""

import base64
import hashlib
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from bulkdl.service.signatures import MAX_AGE_S, MAX_AHEAD_S, SignatureError, verify_signature
from bulkdl.service.webhooks import MAX_BODY_BYTES, PATH, MessageMemory, WebhookReceiver
from bulkdl.simulator.v2.webhooks import sign_event

SECRET = "a secret of the webhook"
NOW_S = 1_800_000_000


def event(message_id="m1", **more):
    return json.dumps({"event": "order.status", "messageId": message_id, "body": {}, **more}).encode()


def signed(body, secret=SECRET, created=NOW_S):
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    headers = {"content-type": "application/json", "digest": f"SHA-256={digest}"}
    return headers | sign_event(secret, headers, created)


class Site:
    """A receiver behind a server, and the number of runs that it triggered."""

    def __init__(self, secret=SECRET, **options):
        self.triggered = 0
        self.receiver = WebhookReceiver(
            self.trigger, SecretStr(secret) if secret else None, now_s=lambda: NOW_S, **options
        )
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post(PATH, self.receiver.handle)
        self.client = TestClient(TestServer(app))

    def trigger(self):
        self.triggered += 1

    async def __aenter__(self):
        await self.client.start_server()
        return self

    async def __aexit__(self, *error):
        await self.client.close()

    async def post(self, body, headers=None, path=PATH):
        async with self.client.post(path, data=body, headers=headers or {}) as response:
            return response.status


async def test_receiver_signed_event_is_accepted_once():
    async with Site() as site:
        body = event()
        assert await site.post(body, signed(body)) == 204
        assert await site.post(body, signed(body)) == 204
        assert site.triggered == 1
        assert (site.receiver.counts.accepted, site.receiver.counts.duplicates) == (1, 1)
        other = event("m2")
        assert await site.post(other, signed(other)) == 204
        assert site.triggered == 2


def without(headers, name):
    return {key: value for key, value in headers.items() if key != name}


BODY = event()
REJECTED = {
    "no signature": {},
    "wrong secret": signed(BODY, "another secret"),
    "too old": signed(BODY, created=NOW_S - MAX_AGE_S),
    "from the future": signed(BODY, created=NOW_S + MAX_AHEAD_S + 1),
    "another body": signed(event("m9")),
    "no digest header": without(signed(BODY), "digest"),
    "no signed headers": signed(BODY) | {"signature-input": f"up42-sig=();created={NOW_S}"},
    "no time": signed(BODY) | {"signature-input": 'up42-sig=("digest" "content-type")'},
    "invalid input": signed(BODY) | {"signature-input": "("},
    "invalid base64": signed(BODY) | {"signature": "up42-sig=%%"},
    "empty signature": signed(BODY) | {"signature": "up42-sig="},
}


@pytest.mark.parametrize("headers", REJECTED.values(), ids=REJECTED)
async def test_receiver_event_with_invalid_signature_is_rejected_with_401(headers):
    async with Site() as site:
        assert await site.post(BODY, headers) == 401
        assert site.triggered == 0
        assert site.receiver.counts.rejected == 1
        assert await site.post(BODY, signed(BODY)) == 204, "the rejected message is not remembered"


async def test_receiver_uses_a_replaced_secret():
    async with Site() as site:
        site.receiver.secret = SecretStr("the next secret")
        assert await site.post(BODY, signed(BODY)) == 401
        assert await site.post(BODY, signed(BODY, "the next secret")) == 204


async def test_receiver_without_secret_accepts_events_unless_disabled():
    async with Site(secret=None) as site:
        assert await site.post(BODY) == 204
        site.receiver.is_enabled = False
        assert await site.post(event("m2")) == 403
        assert site.triggered == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 60_000])
async def test_receiver_body_that_is_not_a_json_object_is_rejected_with_400(body):
    async with Site(secret=None) as site:
        assert await site.post(body) == 400
        assert site.triggered == 0


async def test_receiver_large_body_is_rejected_with_413():
    async with Site(secret=None) as site:
        assert await site.post(event(padding="x" * MAX_BODY_BYTES)) == 413
        assert await site.post(event(padding="x" * (MAX_BODY_BYTES - 200))) == 204


async def test_receiver_event_without_id_triggers_each_time():
    async with Site(secret=None) as site:
        for _ in range(2):
            assert await site.post(event(None)) == 204
        assert site.triggered == 2


def test_message_memory_forgets_the_oldest_id():
    memory = MessageMemory(3)
    assert [memory.is_new(message) for message in "abcabd"] == [True, True, True, False, False, True]
    assert len(memory) == 3
    assert memory.is_new("c"), "c was the oldest"
    assert not memory.is_new("d")


def test_verify_signature_repeated_header_is_rejected():
    headers = {name: [value] for name, value in signed(BODY).items()}
    verify_signature(SECRET, headers, BODY, now_s=NOW_S)
    with pytest.raises(SignatureError, match="digest is repeated"):
        verify_signature(SECRET, headers | {"digest": [signed(BODY)["digest"], "x"]}, BODY, now_s=NOW_S)
