"""Implement the faults that change a reply. Each function returns the changed reply."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from bulkdl.simulator import storage
from bulkdl.simulator.api import answered, unauthorized_reply
from bulkdl.simulator.documents import dump, envelope, error_envelope
from bulkdl.simulator.lazy_bytes import Blob, Chain, Flipped, Literal, Repeated, StoredGzip, Window, whole
from bulkdl.simulator.messages import Call, Reply
from bulkdl.simulator.objects import StoredObject
from bulkdl.simulator.scenarios import HOSTILE_NAMES

_HUGE_S = 10**9


@dataclass(frozen=True, slots=True)
class Scene:
    """
    Context of a fault.

    Attributes:
        stored: The requested object. None for the API.
        values: Parameters of the rule.
    """

    call: Call
    stored: StoredObject | None
    values: Mapping[str, Any]

    def place(self, reply: Reply) -> int:
        """Return the offset: ``at_byte`` (negative: from the end), ``at_fraction``, or the middle."""
        size = reply.body.size
        at_byte: int | None = self.values["at_byte"]
        fraction: float | None = self.values["at_fraction"]
        if at_byte is not None:
            return max(0, min(size, at_byte if at_byte >= 0 else size + at_byte))
        return min(size, int(size * (0.5 if fraction is None else fraction)))


def reset(_scene: Scene, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, reset=True))


def cut(scene: Scene, reply: Reply) -> Reply:
    how = replace(reply.delivery, stop_at=scene.place(reply), stop_resets=scene.values["reset"])
    return replace(reply, delivery=how, announced=not scene.values["chunked"])


def stall(scene: Scene, reply: Reply) -> Reply:
    how = replace(reply.delivery, stall_at=scene.place(reply), stall_s=scene.values["seconds"])
    return replace(reply, delivery=how)


def drip(scene: Scene, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, bytes_per_s=scene.values["bytes_per_s"]))


def slow_headers(scene: Scene, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, head_bytes_per_s=scene.values["bytes_per_s"]))


def latency(scene: Scene, reply: Reply) -> Reply:
    return replace(reply, delivery=replace(reply.delivery, wait_s=scene.values["seconds"]))


def flip(scene: Scene, reply: Reply) -> Reply:
    at = min(scene.place(reply), reply.body.size - 1)
    return replace(reply, body=Flipped(reply.body, at)) if at >= 0 else reply


def short(_scene: Scene, reply: Reply) -> Reply:
    return replace(reply, body=Window(reply.body, 0, max(0, reply.body.size - 1)))


def endless(scene: Scene, reply: Reply) -> Reply:
    how = replace(reply.delivery, extra_bytes=scene.values["extra_bytes"])
    return replace(reply, delivery=how, announced=not scene.values["chunked"])


def ignore_range(scene: Scene, reply: Reply) -> Reply:
    return storage.complete(scene.stored) if scene.stored else reply


def wrong_offset(scene: Scene, reply: Reply) -> Reply:
    if scene.stored is None or reply.status != 206:
        return reply
    size = scene.stored.body.size
    start = size - reply.body.size + scene.values["shift"]
    return storage.part(scene.stored, max(0, min(size - 1, start)), size)


def unsatisfiable(scene: Scene, reply: Reply) -> Reply:
    return storage.unsatisfiable(scene.stored.body.size) if scene.stored else reply


def url_expired(_scene: Scene, _reply: Reply) -> Reply:
    return storage.expired(int(datetime.now(UTC).timestamp()) - 1)


def signature_mismatch(_scene: Scene, _reply: Reply) -> Reply:
    return storage.signature_mismatch()


def xml_200(scene: Scene, _reply: Reply) -> Reply:
    return storage.xml_error(200, scene.values["code"], "We encountered an internal error. Please try again.")


def html(scene: Scene, _reply: Reply) -> Reply:
    page = (
        f"<html><head><title>{scene.values['status']}</title></head><body>Service Unavailable</body></html>"
    )
    return Reply(scene.values["status"], (("Content-Type", "text/html"),), Literal(page.encode()))


def status(scene: Scene, _reply: Reply) -> Reply:
    code, body = scene.values["status"], scene.values["body"]
    if body or scene.call.server == "storage":
        reply = Reply(code, (("Content-Type", "text/plain"),), Literal(body.encode()))
    else:
        reply = answered(error_envelope(code, "Something went wrong"), status=code)
    return reply.with_headers(*((name, str(value)) for name, value in scene.values["headers"].items()))


def throttled(scene: Scene, _reply: Reply) -> Reply:
    asked, now = scene.values["retry_after"], datetime.now(UTC)
    after = {
        "date": format_datetime(now + timedelta(seconds=scene.values["seconds"]), usegmt=True),
        "past": format_datetime(now - timedelta(hours=1), usegmt=True),
        "huge": str(_HUGE_S),
        "none": "",
    }.get(str(asked), str(asked))
    if scene.call.server == "storage":
        reply = storage.xml_error(429, "TooManyRequests", "The rate limit was exceeded.")
    else:
        reply = answered(error_envelope(429, "Too many requests"), status=429)
    return reply.with_headers(("Retry-After", after)) if after else reply


def unauthorized(_scene: Scene, _reply: Reply) -> Reply:
    return unauthorized_reply("ACCESS_TOKEN_EXPIRED: JWT expired")


def truncated_json(scene: Scene, reply: Reply) -> Reply:
    return replace(reply, body=Window(reply.body, 0, scene.place(reply)))


def wrong_type(scene: Scene, reply: Reply) -> Reply:
    try:
        document = json.loads(whole(reply.body))
        _put(document, scene.values["field"].split("."), scene.values["value"])
    except (ValueError, LookupError, TypeError):
        return reply
    return replace(reply, body=Literal(dump(document)))


def _put(document: Any, path: list[str], value: Any) -> None:
    for step in path[:-1]:
        document = document[int(step) if isinstance(document, list) else step]
    document[int(path[-1]) if isinstance(document, list) else path[-1]] = value


def error_in_200(scene: Scene, _reply: Reply) -> Reply:
    return answered(error_envelope(scene.values["code"], scene.values["message"]))


def gzip_transcoded(scene: Scene, reply: Reply) -> Reply:
    """Transcode a gzip object depending on Accept-Encoding. Do not change ``.zip`` and ``.tar``."""
    inner = _unpacked(scene.stored.body) if scene.stored else None
    if scene.stored is None or inner is None:
        return reply
    if "gzip" in scene.call.headers.get("Accept-Encoding", ""):
        return reply.with_headers(("Content-Encoding", "gzip"), ("x-goog-stored-content-encoding", "gzip"))
    served = storage.complete(scene.stored).without("Accept-Ranges")
    served = served.with_headers(
        ("x-goog-stored-content-encoding", "gzip"), ("Warning", "214 UploadServer gunzipped")
    )
    return replace(served, body=inner, announced=False)


def _unpacked(body: Blob) -> Blob | None:
    if isinstance(body, StoredGzip):
        return body.inner
    if body.read(0, 2) != b"\x1f\x8b":
        return None
    return Literal(zlib.decompress(whole(body), wbits=31))


def huge_list(scene: Scene, reply: Reply) -> Reply:
    head, unit, tail = b'{"data":["', b'0123456789abcdef.jpg","', b'.jpg"],"error":null}'
    times, rest = divmod(max(0, scene.values["size_bytes"] - len(head) - len(tail)), len(unit))
    body = Chain([Literal(head), Repeated(unit, times * len(unit)), Literal(b"0" * rest + tail)])
    return replace(reply, body=body)


def hostile_names(_scene: Scene, reply: Reply) -> Reply:
    return replace(reply, body=Literal(envelope(list(HOSTILE_NAMES))))


def without(scene: Scene, reply: Reply) -> Reply:
    return reply.without(*map(str, scene.values["headers"]))


def no_hash(_scene: Scene, reply: Reply) -> Reply:
    return reply.without("x-goog-hash")


def no_etag(_scene: Scene, reply: Reply) -> Reply:
    return reply.without("ETag")


def no_length(_scene: Scene, reply: Reply) -> Reply:
    return replace(reply, announced=False)


def redirect(scene: Scene, _reply: Reply) -> Reply:
    return Reply(scene.values["status"], (("Location", scene.values["location"]),))
