"""Implement the faults that change a reply. Each function returns the changed reply."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from bulkdl.simulator import storage
from bulkdl.simulator.api import create_reply, create_unauthorized_reply
from bulkdl.simulator.documents import dump, envelope, error_envelope
from bulkdl.simulator.lazy_bytes import (
    Blob,
    BlobChain,
    BlobSlice,
    FlippedByte,
    LiteralBytes,
    RepeatedBytes,
    StoredGzip,
    read_all,
)
from bulkdl.simulator.messages import ReceivedRequest, Reply
from bulkdl.simulator.objects import BucketObject
from bulkdl.simulator.routes import LIST_KEYS, TODAY_ENDPOINTS
from bulkdl.simulator.scenarios import HOSTILE_NAMES
from bulkdl.simulator.v2.messages import create_error_reply

_HUGE_S = 10**9


@dataclass(frozen=True, slots=True)
class FaultContext:
    """
    Context of a fault.

    Attributes:
        stored: The requested object. None for the API.
        values: Parameters of the rule.
    """

    call: ReceivedRequest
    target: BucketObject | None
    values: Mapping[str, Any]

    def offset(self, reply: Reply) -> int:
        """Return the offset: ``at_byte`` (negative: from the end), ``at_fraction``, or the middle."""
        size = reply.body.size
        at_byte: int | None = self.values["at_byte"]
        fraction: float | None = self.values["at_fraction"]
        if at_byte is not None:
            return max(0, min(size, at_byte if at_byte >= 0 else size + at_byte))
        return min(size, int(size * (0.5 if fraction is None else fraction)))


def reset(_context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, reset=True))


def cut(context: FaultContext, reply: Reply) -> Reply:
    delivery = replace(reply.delivery, stop_at=context.offset(reply), stop_resets=context.values["reset"])
    return replace(reply, delivery=delivery, has_content_length=not context.values["chunked"])


def stall(context: FaultContext, reply: Reply) -> Reply:
    delivery = replace(reply.delivery, stall_at=context.offset(reply), stall_s=context.values["seconds"])
    return replace(reply, delivery=delivery)


def drip(context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, bytes_per_s=context.values["bytes_per_s"]))


def slow_headers(context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, head_bytes_per_s=context.values["bytes_per_s"]))


def latency(context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, delay_s=context.values["seconds"]))


def flip(context: FaultContext, reply: Reply) -> Reply:
    at = min(context.offset(reply), reply.body.size - 1)
    return replace(reply, body=FlippedByte(reply.body, at)) if at >= 0 else reply


def short(_context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, body=BlobSlice(reply.body, 0, max(0, reply.body.size - 1)))


def endless(context: FaultContext, reply: Reply) -> Reply:
    delivery = replace(reply.delivery, extra_bytes=context.values["extra_bytes"])
    return replace(reply, delivery=delivery, has_content_length=not context.values["chunked"])


def ignore_range(context: FaultContext, reply: Reply) -> Reply:
    return storage.full_reply(context.target) if context.target else reply


def wrong_offset(context: FaultContext, reply: Reply) -> Reply:
    if context.target is None or reply.status != 206:
        return reply
    size = context.target.body.size
    start = size - reply.body.size + context.values["shift"]
    return storage.partial_reply(context.target, max(0, min(size - 1, start)), size)


def unsatisfiable(context: FaultContext, reply: Reply) -> Reply:
    return storage.unsatisfiable_range_error(context.target.body.size) if context.target else reply


def url_expired(_context: FaultContext, _reply: Reply) -> Reply:
    return storage.expired_token_error(int(datetime.now(UTC).timestamp()) - 1)


def signature_mismatch(_context: FaultContext, _reply: Reply) -> Reply:
    return storage.signature_mismatch_error()


def xml_200(context: FaultContext, _reply: Reply) -> Reply:
    return storage.xml_error(
        200, context.values["code"], "We encountered an internal error. Please try again."
    )


def html(context: FaultContext, _reply: Reply) -> Reply:
    page = (
        f"<html><head><title>{context.values['status']}</title></head><body>Service Unavailable</body></html>"
    )
    return Reply(context.values["status"], (("Content-Type", "text/html"),), LiteralBytes(page.encode()))


def status(context: FaultContext, _reply: Reply) -> Reply:
    code, body = context.values["status"], context.values["body"]
    if body or context.call.server == "storage":
        reply = Reply(code, (("Content-Type", "text/plain"),), LiteralBytes(body.encode()))
    else:
        reply = _api_error(context.call, code, "Something went wrong")
    return reply.with_headers(*((name, str(value)) for name, value in context.values["headers"].items()))


def throttled(context: FaultContext, _reply: Reply) -> Reply:
    requested, now = context.values["retry_after"], datetime.now(UTC)
    after = {
        "date": format_datetime(now + timedelta(seconds=context.values["seconds"]), usegmt=True),
        "past": format_datetime(now - timedelta(hours=1), usegmt=True),
        "huge": str(_HUGE_S),
        "none": "",
    }.get(str(requested), str(requested))
    if context.call.server == "storage":
        reply = storage.xml_error(429, "TooManyRequests", "The rate limit was exceeded.")
    else:
        reply = _api_error(context.call, 429, "Too many requests")
    return reply.with_headers(("Retry-After", after)) if after else reply


def unauthorized(context: FaultContext, _reply: Reply) -> Reply:
    message = "ACCESS_TOKEN_EXPIRED: JWT expired"
    if context.call.endpoint in TODAY_ENDPOINTS:
        return create_error_reply(context.call.endpoint, 401, message)
    return create_unauthorized_reply(message)


def _api_error(call: ReceivedRequest, code: int, message: str) -> Reply:
    """Return an error of the API in the format of the endpoint."""
    if call.endpoint in TODAY_ENDPOINTS:
        return create_error_reply(call.endpoint, code, message)
    return create_reply(error_envelope(code, message), status=code)


def truncated_json(context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, body=BlobSlice(reply.body, 0, context.offset(reply)))


def wrong_type(context: FaultContext, reply: Reply) -> Reply:
    try:
        document = json.loads(read_all(reply.body))
        _put(document, context.values["field"].split("."), context.values["value"])
    except (ValueError, LookupError, TypeError):
        return reply
    return replace(reply, body=LiteralBytes(dump(document)))


def _put(document: Any, path: list[str], value: Any) -> None:
    for step in path[:-1]:
        document = document[int(step) if isinstance(document, list) else step]
    document[int(path[-1]) if isinstance(document, list) else path[-1]] = value


def error_in_200(context: FaultContext, _reply: Reply) -> Reply:
    code, message = context.values["code"], context.values["message"]
    if context.call.endpoint in TODAY_ENDPOINTS:
        number = code if isinstance(code, int) else 500
        return replace(create_error_reply(context.call.endpoint, number, message), status=200)
    return create_reply(error_envelope(code, message))


def gzip_transcoded(context: FaultContext, reply: Reply) -> Reply:
    """Transcode a gzip object depending on Accept-Encoding. Do not change ``.zip`` and ``.tar``."""
    inner = _unpacked(context.target.body) if context.target else None
    if context.target is None or inner is None:
        return reply
    if "gzip" in context.call.headers.get("Accept-Encoding", ""):
        return reply.with_headers(("Content-Encoding", "gzip"), ("x-goog-stored-content-encoding", "gzip"))
    served = storage.full_reply(context.target).without_headers("Accept-Ranges")
    served = served.with_headers(
        ("x-goog-stored-content-encoding", "gzip"), ("Warning", "214 UploadServer gunzipped")
    )
    return replace(served, body=inner, has_content_length=False)


def _unpacked(body: Blob) -> Blob | None:
    if isinstance(body, StoredGzip):
        return body.inner
    if body.read(0, 2) != b"\x1f\x8b":
        return None
    return LiteralBytes(zlib.decompress(read_all(body), wbits=31))


def huge_list(context: FaultContext, reply: Reply) -> Reply:
    key = LIST_KEYS.get(context.call.endpoint, "data")
    head, unit, tail = (
        f'{{"{key}":["'.encode(),
        b'0123456789abcdef.jpg","',
        b'.jpg"],"error":null,"links":[]}' if key != "data" else b'.jpg"],"error":null}',
    )
    times, rest = divmod(max(0, context.values["size_bytes"] - len(head) - len(tail)), len(unit))
    body = BlobChain(
        [LiteralBytes(head), RepeatedBytes(unit, times * len(unit)), LiteralBytes(b"0" * rest + tail)]
    )
    return replace(reply, body=body)


def hostile_names(context: FaultContext, reply: Reply) -> Reply:
    """Replace all names in a list: of quicklooks, of originals, and the keys of STAC assets."""
    if context.call.endpoint not in TODAY_ENDPOINTS:
        return replace(reply, body=LiteralBytes(envelope(list(HOSTILE_NAMES))))
    document = json.loads(read_all(reply.body))
    for number, entry in enumerate(_find_entries(context.call, document)):
        if "name" in entry:
            entry["name"] = HOSTILE_NAMES[number % len(HOSTILE_NAMES)]
        if "assets" in entry:
            names = itertools.cycle(HOSTILE_NAMES)
            entry["assets"] = dict(zip(names, entry["assets"].values(), strict=False))
    return replace(reply, body=LiteralBytes(dump(document)))


def foreign_hrefs(context: FaultContext, reply: Reply) -> Reply:
    """Let the hrefs of STAC assets point to another origin."""
    document = json.loads(read_all(reply.body))
    for entry in _find_entries(context.call, document):
        for asset in entry.get("assets", {}).values():
            asset["href"] = _with_origin(asset["href"], context.values["origin"])
    return replace(reply, body=LiteralBytes(dump(document)))


def next_link(context: FaultContext, reply: Reply) -> Reply:
    """Let the link to the next page point to another origin."""
    document = json.loads(read_all(reply.body))
    for link in document.get("links", ()):
        if link["rel"] == "next":
            link["href"] = _with_origin(link["href"], context.values["origin"])
    return replace(reply, body=LiteralBytes(dump(document)))


def _find_entries(call: ReceivedRequest, document: Any) -> list[Any]:
    """Return the entries of a page, or the single entry of other endpoints."""
    entries: list[Any] = document.get(LIST_KEYS.get(call.endpoint, ""), [document])
    return entries


def _with_origin(href: str, origin: str) -> str:
    parts = urlsplit(href)
    return f"{origin}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def without(context: FaultContext, reply: Reply) -> Reply:
    return reply.without_headers(*map(str, context.values["headers"]))


def no_hash(_context: FaultContext, reply: Reply) -> Reply:
    return reply.without_headers("x-goog-hash")


def no_etag(_context: FaultContext, reply: Reply) -> Reply:
    return reply.without_headers("ETag")


def no_length(_context: FaultContext, reply: Reply) -> Reply:
    return replace(reply, has_content_length=False)


def redirect(context: FaultContext, _reply: Reply) -> Reply:
    return Reply(context.values["status"], (("Location", context.values["location"]),))
