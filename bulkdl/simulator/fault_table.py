"""
Every fault there is, in one table: its name, what it means, its parameters, where it happens by default.

What each does stands in ``fault_replies.py`` (it changes what is answered, or how that travels) and
``fault_events.py`` (it changes the world before the answer is made).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bulkdl.simulator import fault_events as events
from bulkdl.simulator import fault_replies as replies
from bulkdl.simulator.exchange import Reply
from bulkdl.simulator.fault_events import Event
from bulkdl.simulator.fault_replies import Scene
from bulkdl.simulator.routes import ENDPOINTS

_NUMBER = (int, float)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a fault; without a default and not *needed* it may stay away."""

    types: tuple[type, ...]
    default: Any = None
    needed: bool = False
    words: tuple[str, ...] = ()  # all that a text may be; any if empty

    def read(self, value: Any) -> Any:
        """*value* if it has one of the types. Raises: TypeError."""
        if object not in self.types and type(value) not in self.types:
            names = " or ".join(one.__name__ for one in self.types)
            raise TypeError(f"expected {names}; got {value!r}")
        if self.words and isinstance(value, str) and value not in self.words:
            raise TypeError(f"expected one of {', '.join(self.words)}; got {value!r}")
        return value


@dataclass(frozen=True, slots=True)
class FaultKind:
    """
    One kind of fault.

    Attributes:
        meaning: What the client sees.
        change: Makes another reply of the honest one, or
        happen: changes the world before there is one.
        where: Which requests, unless the rule says otherwise.
        on_success: Leaves replies alone that are errors already.
    """

    name: str
    meaning: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    change: Callable[[Scene, Reply], Reply] | None = None
    happen: Callable[[Event], Awaitable[None]] | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    on_success: bool = True

    def __str__(self) -> str:
        """One line for a person: name, meaning, parameters with their defaults."""
        keys = [
            key if parameter.needed or parameter.default is None else f"{key}={parameter.default!r}"
            for key, parameter in self.parameters.items()
        ]
        return f"{self.name:<20}{self.meaning}" + (f" ({', '.join(keys)})" if keys else "")


_PLACE = {"at_byte": Parameter((int,)), "at_fraction": Parameter(_NUMBER)}
_STORAGE = {"server": "storage"}
_API = {"server": "api"}

_KINDS = (
    FaultKind(
        "down",
        "connections are refused for a while, those open are dropped",
        {"seconds": Parameter(_NUMBER, 1.0)},
        happen=events.down,
    ),
    FaultKind("reset", "connection reset before any header", change=replies.reset, on_success=False),
    FaultKind(
        "cut",
        "connection closed (or reset) in the middle of the body",
        {**_PLACE, "chunked": Parameter((bool,), False), "reset": Parameter((bool,), False)},
        change=replies.cut,
    ),
    FaultKind(
        "stall",
        "the body stands still for a while",
        {**_PLACE, "seconds": Parameter(_NUMBER, 3600.0)},
        change=replies.stall,
    ),
    FaultKind(
        "drip", "the body comes slowly", {"bytes_per_s": Parameter(_NUMBER, needed=True)}, change=replies.drip
    ),
    FaultKind(
        "slow_headers",
        "the headers come byte by byte",
        {"bytes_per_s": Parameter(_NUMBER, 1.0)},
        change=replies.slow_headers,
        on_success=False,
    ),
    FaultKind(
        "latency",
        "the answer begins late",
        {"seconds": Parameter(_NUMBER, needed=True)},
        change=replies.latency,
        on_success=False,
    ),
    FaultKind(
        "flip", "one byte of the body is wrong, the digest headers are true", _PLACE, change=replies.flip
    ),
    FaultKind("short", "the last byte is missing and Content-Length agrees", change=replies.short),
    FaultKind(
        "endless",
        "more bytes than announced; -1 never ends",
        {"extra_bytes": Parameter((int,), -1), "chunked": Parameter((bool,), False)},
        change=replies.endless,
    ),
    FaultKind(
        "ignore_range", "200 and everything to a ranged request", change=replies.ignore_range, where=_STORAGE
    ),
    FaultKind(
        "wrong_offset",
        "206 from another offset than asked",
        {"shift": Parameter((int,), 1)},
        change=replies.wrong_offset,
        where=_STORAGE,
    ),
    FaultKind("unsatisfiable", "416", change=replies.unsatisfiable, where={**_STORAGE, "ranged": True}),
    FaultKind(
        "replaced",
        "another object stands at the path from now on",
        {"longer_by": Parameter((int,), 0)},
        happen=events.replaced,
        where=_STORAGE,
    ),
    FaultKind(
        "url_expired", "400 ExpiredToken", change=replies.url_expired, where=_STORAGE, on_success=False
    ),
    FaultKind(
        "signature_mismatch",
        "403 SignatureDoesNotMatch",
        change=replies.signature_mismatch,
        where=_STORAGE,
        on_success=False,
    ),
    FaultKind(
        "xml_200",
        "an XML error with status 200",
        {"code": Parameter((str,), "InternalError")},
        change=replies.xml_200,
    ),
    FaultKind(
        "html",
        "a gateway's HTML page",
        {"status": Parameter((int,), 503)},
        change=replies.html,
        on_success=False,
    ),
    FaultKind(
        "status",
        "any status",
        {
            "status": Parameter((int,), needed=True),
            "body": Parameter((str,), ""),
            "headers": Parameter((dict,), {}),
        },
        change=replies.status,
        on_success=False,
    ),
    FaultKind(
        "throttled",
        '429; retry_after is seconds, or "date" (in *seconds*), "past", "huge", "none"',
        {
            "retry_after": Parameter((int, str), 1, words=("date", "past", "huge", "none")),
            "seconds": Parameter(_NUMBER, 1.0),
        },
        change=replies.throttled,
        on_success=False,
    ),
    FaultKind(
        "unauthorized",
        "401 as UP42 words it; not from the token endpoint, unless the rule names it",
        change=replies.unauthorized,
        where={**_API, "endpoint": [name for name in ENDPOINTS if name != "token"]},
        on_success=False,
    ),
    FaultKind("revoke_tokens", "all tokens so far are worth a 401", happen=events.revoke_tokens, where=_API),
    FaultKind(
        "expire_urls", "all signed URLs so far have expired", happen=events.expire_urls, where=_STORAGE
    ),
    FaultKind(
        "truncated_json", "JSON that ends too early", _PLACE, change=replies.truncated_json, where=_API
    ),
    FaultKind(
        "wrong_type",
        "another type at a place of the JSON (dotted path, from the root)",
        {"field": Parameter((str,), "data"), "value": Parameter((object,), "surprise")},
        change=replies.wrong_type,
        where=_API,
    ),
    FaultKind(
        "error_in_200",
        "an error in the envelope of a 200",
        {"code": Parameter((int, str), 500), "message": Parameter((str,), "Something went wrong")},
        change=replies.error_in_200,
        where=_API,
    ),
    FaultKind(
        "gzip_transcoded",
        "the object has Content-Encoding gzip: unpacked and without length for who does not accept gzip",
        change=replies.gzip_transcoded,
        where=_STORAGE,
    ),
    FaultKind(
        "repeat_pages",
        "job pages overlap, and begin again at the end if *forever*",
        {"overlap": Parameter((int,), 1), "forever": Parameter((bool,), True)},
        happen=events.repeat_pages,
        where={**_API, "endpoint": "jobs"},
    ),
    FaultKind(
        "delete_jobs",
        "the oldest *count* jobs of the project are deleted before the page is sent",
        {"count": Parameter((int,), 1)},
        happen=events.delete_jobs,
        where={**_API, "endpoint": "jobs"},
    ),
    FaultKind(
        "huge_list",
        "a quicklook list of that many bytes",
        {"size_bytes": Parameter((int,), 200 << 20)},
        change=replies.huge_list,
        where={**_API, "endpoint": "quicklooks"},
    ),
    FaultKind(
        "hostile_names",
        "quicklook names that no file may have",
        change=replies.hostile_names,
        where={**_API, "endpoint": "quicklooks"},
    ),
    FaultKind(
        "without",
        "some headers are missing",
        {"headers": Parameter((list,), needed=True)},
        change=replies.without,
    ),
    FaultKind("no_hash", "no x-goog-hash", change=replies.no_hash, where=_STORAGE),
    FaultKind("no_etag", "no ETag", change=replies.no_etag, where=_STORAGE),
    FaultKind("no_length", "no Content-Length: a chunked body", change=replies.no_length),
    FaultKind(
        "redirect",
        "sent elsewhere",
        {"location": Parameter((str,), needed=True), "status": Parameter((int,), 302)},
        change=replies.redirect,
        on_success=False,
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
