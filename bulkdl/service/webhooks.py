"""
Receive the events of UP42: ``POST /webhooks/up42``.

An event only triggers a run, which looks at the account. Its body is not used for anything else, because UP42
does not document whether the signature covers it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import SecretStr

from bulkdl.log import get_logger
from bulkdl.service.signatures import SignatureError, verify_signature

log = get_logger(__name__)

PATH = "/webhooks/up42"
MAX_BODY_BYTES = 64 * 1024
_BODY_TIMEOUT_S = 10.0
_REMEMBERED_MESSAGES = 10_000
_MAX_ID_CHARS = 128
# A port scan or a wrong secret must not fill the log.
_WARNING_INTERVAL_S = 60.0


@dataclass(slots=True)
class WebhookCounts:
    """Number of requests since the start of the service."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0


class MessageMemory:
    """Remembers the IDs of the last messages."""

    def __init__(self, size: int = _REMEMBERED_MESSAGES) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ids)

    def is_new(self, message_id: str) -> bool:
        """Remember *message_id*; return whether it was not remembered before."""
        is_new = message_id not in self._ids
        self._ids[message_id] = None
        self._ids.move_to_end(message_id)
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)
        return is_new


class WebhookReceiver:
    """
    Handles the requests of UP42.

    Attributes:
        secret: Verifies the signatures; None without a secret. It can be replaced.
        is_enabled: Without it, all requests are rejected with 403.
        counts: Number of requests by result.
    """

    def __init__(
        self,
        on_event: Callable[[], None],
        secret: SecretStr | None,
        *,
        is_enabled: bool = True,
        now_s: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Create a receiver.

        Args:
            on_event: Called for each event that is valid and new.
            now_s: Returns the Unix time.
            clock: Monotonic clock in seconds.
        """
        self.secret = secret
        self.is_enabled = is_enabled
        self.counts = WebhookCounts()
        self._on_event = on_event
        self._now_s = now_s
        self._clock = clock
        self._messages = MessageMemory()
        self._warned_at_s: float | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Return 204 for a valid event, also for a repeated one; otherwise a status from 400 to 413."""
        if not self.is_enabled:
            return self._reject(403, "a secret is required: set --webhook-secret-file")
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                body = await request.read()
        except TimeoutError:
            return self._reject(408, "the body did not arrive in time")
        except web.HTTPRequestEntityTooLarge:
            return self._reject(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        if self.secret is not None:
            headers = {name.lower(): request.headers.getall(name) for name in request.headers}
            try:
                verify_signature(self.secret.get_secret_value(), headers, body, now_s=self._now_s())
            except SignatureError as error:
                return self._reject(401, str(error))
        return self._accept(body)

    def _accept(self, body: bytes) -> web.Response:
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            return self._reject(400, "the body is not a JSON object")
        message_id = event.get("messageId")
        if isinstance(message_id, str) and not self._messages.is_new(message_id[:_MAX_ID_CHARS]):
            self.counts.duplicates += 1
            log.debug("serve.webhook_repeated", message_id=message_id[:_MAX_ID_CHARS])
        else:
            self.counts.accepted += 1
            log.info("serve.webhook_received", name=str(event.get("event", ""))[:_MAX_ID_CHARS])
            self._on_event()
        return web.Response(status=204)

    def _reject(self, status: int, problem: str) -> web.Response:
        self.counts.rejected += 1
        now_s = self._clock()
        if self._warned_at_s is None or now_s - self._warned_at_s >= _WARNING_INTERVAL_S:
            self._warned_at_s = now_s
            log.warning(
                "serve.webhook_rejected", status=status, detail=problem, rejected=self.counts.rejected
            )
        return web.json_response({"error": problem}, status=status)
