"""
Define all faults in one table: name, meaning, parameters and default condition.

``fault_replies.py`` implements the faults that change a reply or its delivery. ``fault_events.py``
implements the faults that change the state of the simulator before the reply is created.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bulkdl.simulator import fault_events as events
from bulkdl.simulator import fault_replies as replies
from bulkdl.simulator.fault_events import Event
from bulkdl.simulator.fault_replies import Scene
from bulkdl.simulator.messages import Reply
from bulkdl.simulator.routes import ENDPOINTS

_NUMBER = (int, float)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a fault. It is optional if it has no default and is not *needed*."""

    types: tuple[type, ...]
    default: Any = None
    needed: bool = False
    words: tuple[str, ...] = ()  # permitted texts; empty permits any

    def read(self, value: Any) -> Any:
        """Return *value* if it has one of the types. Raises: TypeError."""
        if object not in self.types and type(value) not in self.types:
            names = " or ".join(one.__name__ for one in self.types)
            raise TypeError(f"expected {names}; got {value!r}")
        if self.words and isinstance(value, str) and value not in self.words:
            raise TypeError(f"expected one of {', '.join(self.words)}; got {value!r}")
        return value


@dataclass(frozen=True, slots=True)
class FaultKind:
    """
    Definition of one fault.

    Attributes:
        meaning: Effect for the client.
        change: Changes the reply.
        happen: Changes the state of the simulator before the reply is created.
        where: Default condition for requests.
        on_success: Do not apply to error replies.
    """

    name: str
    meaning: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    change: Callable[[Scene, Reply], Reply] | None = None
    happen: Callable[[Event], Awaitable[None]] | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    on_success: bool = True

    def __str__(self) -> str:
        """Return one line with name, meaning and parameters with defaults."""
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
        "refuse new connections and close open connections for some time",
        {"seconds": Parameter(_NUMBER, 1.0)},
        happen=events.down,
    ),
    FaultKind("reset", "reset the connection before the headers", change=replies.reset, on_success=False),
    FaultKind(
        "cut",
        "close (or reset) the connection in the middle of the body",
        {**_PLACE, "chunked": Parameter((bool,), False), "reset": Parameter((bool,), False)},
        change=replies.cut,
    ),
    FaultKind(
        "stall",
        "pause the body",
        {**_PLACE, "seconds": Parameter(_NUMBER, 3600.0)},
        change=replies.stall,
    ),
    FaultKind(
        "drip", "send the body slowly", {"bytes_per_s": Parameter(_NUMBER, needed=True)}, change=replies.drip
    ),
    FaultKind(
        "slow_headers",
        "send the headers slowly",
        {"bytes_per_s": Parameter(_NUMBER, 1.0)},
        change=replies.slow_headers,
        on_success=False,
    ),
    FaultKind(
        "latency",
        "delay the response",
        {"seconds": Parameter(_NUMBER, needed=True)},
        change=replies.latency,
        on_success=False,
    ),
    FaultKind(
        "flip", "change one byte of the body, but not the checksum headers", _PLACE, change=replies.flip
    ),
    FaultKind("short", "omit the last byte and adapt Content-Length", change=replies.short),
    FaultKind(
        "endless",
        "send more bytes than announced; -1 never ends",
        {"extra_bytes": Parameter((int,), -1), "chunked": Parameter((bool,), False)},
        change=replies.endless,
    ),
    FaultKind(
        "ignore_range",
        "return 200 with the whole object for a range request",
        change=replies.ignore_range,
        where=_STORAGE,
    ),
    FaultKind(
        "wrong_offset",
        "return 206 with a different offset than requested",
        {"shift": Parameter((int,), 1)},
        change=replies.wrong_offset,
        where=_STORAGE,
    ),
    FaultKind(
        "unsatisfiable", "return 416", change=replies.unsatisfiable, where={**_STORAGE, "ranged": True}
    ),
    FaultKind(
        "replaced",
        "replace the object permanently",
        {"longer_by": Parameter((int,), 0)},
        happen=events.replaced,
        where=_STORAGE,
    ),
    FaultKind(
        "url_expired", "return 400 ExpiredToken", change=replies.url_expired, where=_STORAGE, on_success=False
    ),
    FaultKind(
        "signature_mismatch",
        "return 403 SignatureDoesNotMatch",
        change=replies.signature_mismatch,
        where=_STORAGE,
        on_success=False,
    ),
    FaultKind(
        "xml_200",
        "return an XML error with status 200",
        {"code": Parameter((str,), "InternalError")},
        change=replies.xml_200,
    ),
    FaultKind(
        "html",
        "return an HTML page of a gateway",
        {"status": Parameter((int,), 503)},
        change=replies.html,
        on_success=False,
    ),
    FaultKind(
        "status",
        "return this status",
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
        'return 429; retry_after is seconds, or "date" (in *seconds*), "past", "huge", "none"',
        {
            "retry_after": Parameter((int, str), 1, words=("date", "past", "huge", "none")),
            "seconds": Parameter(_NUMBER, 1.0),
        },
        change=replies.throttled,
        on_success=False,
    ),
    FaultKind(
        "unauthorized",
        "return 401 as UP42 does; applies to the token endpoint only if the rule names it",
        change=replies.unauthorized,
        where={**_API, "endpoint": [name for name in ENDPOINTS if name != "token"]},
        on_success=False,
    ),
    FaultKind(
        "revoke_tokens", "reject all tokens issued so far with 401", happen=events.revoke_tokens, where=_API
    ),
    FaultKind("expire_urls", "expire all URLs signed so far", happen=events.expire_urls, where=_STORAGE),
    FaultKind(
        "truncated_json", "truncate the JSON document", _PLACE, change=replies.truncated_json, where=_API
    ),
    FaultKind(
        "wrong_type",
        "change the type of a JSON field (dotted path from the root)",
        {"field": Parameter((str,), "data"), "value": Parameter((object,), "surprise")},
        change=replies.wrong_type,
        where=_API,
    ),
    FaultKind(
        "error_in_200",
        "return an error document with status 200",
        {"code": Parameter((int, str), 500), "message": Parameter((str,), "Something went wrong")},
        change=replies.error_in_200,
        where=_API,
    ),
    FaultKind(
        "gzip_transcoded",
        "store the object with Content-Encoding gzip; decompress it for clients that do not accept gzip",
        change=replies.gzip_transcoded,
        where=_STORAGE,
    ),
    FaultKind(
        "repeat_pages",
        "overlap job pages; with *forever*, start again after the last job",
        {"overlap": Parameter((int,), 1), "forever": Parameter((bool,), True)},
        happen=events.repeat_pages,
        where={**_API, "endpoint": "jobs"},
    ),
    FaultKind(
        "delete_jobs",
        "delete the oldest *count* jobs of the project before the page is sent",
        {"count": Parameter((int,), 1)},
        happen=events.delete_jobs,
        where={**_API, "endpoint": "jobs"},
    ),
    FaultKind(
        "huge_list",
        "return a quicklook list of this size",
        {"size_bytes": Parameter((int,), 200 << 20)},
        change=replies.huge_list,
        where={**_API, "endpoint": "quicklooks"},
    ),
    FaultKind(
        "hostile_names",
        "return quicklook names that are not valid file names",
        change=replies.hostile_names,
        where={**_API, "endpoint": "quicklooks"},
    ),
    FaultKind(
        "without",
        "omit headers",
        {"headers": Parameter((list,), needed=True)},
        change=replies.without,
    ),
    FaultKind("no_hash", "omit x-goog-hash", change=replies.no_hash, where=_STORAGE),
    FaultKind("no_etag", "omit ETag", change=replies.no_etag, where=_STORAGE),
    FaultKind("no_length", "omit Content-Length and send a chunked body", change=replies.no_length),
    FaultKind(
        "redirect",
        "redirect to another URL",
        {"location": Parameter((str,), needed=True), "status": Parameter((int,), 302)},
        change=replies.redirect,
        on_success=False,
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
