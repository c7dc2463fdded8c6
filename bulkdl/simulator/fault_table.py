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
from bulkdl.simulator.fault_events import FaultEvent
from bulkdl.simulator.fault_replies import FaultContext
from bulkdl.simulator.messages import Reply
from bulkdl.simulator.routes import ENDPOINTS, LIST_KEYS, LOGIN_ENDPOINTS

_NUMBER = (int, float)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a fault. It is optional if it has no default and is not *needed*."""

    types: tuple[type, ...]
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()  # permitted texts; empty permits any

    def read(self, value: Any) -> Any:
        """Return *value* if it has one of the types. Raises: TypeError."""
        if object not in self.types and type(value) not in self.types:
            names = " or ".join(type_.__name__ for type_ in self.types)
            raise TypeError(f"expected {names}; got {value!r}")
        if self.choices and isinstance(value, str) and value not in self.choices:
            raise TypeError(f"expected one of {', '.join(self.choices)}; got {value!r}")
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
    change_reply: Callable[[FaultContext, Reply], Reply] | None = None
    change_state: Callable[[FaultEvent], Awaitable[None]] | None = None
    condition: Mapping[str, Any] = field(default_factory=dict)
    only_on_success: bool = True

    def __str__(self) -> str:
        """Return one line with name, meaning and parameters with defaults."""
        keys = [
            key if parameter.required or parameter.default is None else f"{key}={parameter.default!r}"
            for key, parameter in self.parameters.items()
        ]
        return f"{self.name:<20}{self.meaning}" + (f" ({', '.join(keys)})" if keys else "")


_OFFSET = {"at_byte": Parameter((int,)), "at_fraction": Parameter(_NUMBER)}
_STORAGE = {"server": "storage"}
_API = {"server": "api"}
_LISTS = {**_API, "endpoint": list(LIST_KEYS)}
_STAC_LISTS = {**_API, "endpoint": ["collections", "items", "search"]}

_KINDS = (
    FaultKind(
        "down",
        "refuse new connections and close open connections for some time",
        {"seconds": Parameter(_NUMBER, 1.0)},
        change_state=events.down,
    ),
    FaultKind(
        "reset", "reset the connection before the headers", change_reply=replies.reset, only_on_success=False
    ),
    FaultKind(
        "cut",
        "close (or reset) the connection in the middle of the body",
        {**_OFFSET, "chunked": Parameter((bool,), False), "reset": Parameter((bool,), False)},
        change_reply=replies.cut,
    ),
    FaultKind(
        "stall",
        "pause the body",
        {**_OFFSET, "seconds": Parameter(_NUMBER, 3600.0)},
        change_reply=replies.stall,
    ),
    FaultKind(
        "drip",
        "send the body slowly",
        {"bytes_per_s": Parameter(_NUMBER, required=True)},
        change_reply=replies.drip,
    ),
    FaultKind(
        "slow_headers",
        "send the headers slowly",
        {"bytes_per_s": Parameter(_NUMBER, 1.0)},
        change_reply=replies.slow_headers,
        only_on_success=False,
    ),
    FaultKind(
        "latency",
        "delay the response",
        {"seconds": Parameter(_NUMBER, required=True)},
        change_reply=replies.latency,
        only_on_success=False,
    ),
    FaultKind(
        "flip",
        "change one byte of the body, but not the checksum headers",
        _OFFSET,
        change_reply=replies.flip,
    ),
    FaultKind("short", "omit the last byte and adapt Content-Length", change_reply=replies.short),
    FaultKind(
        "endless",
        "send more bytes than announced; -1 never ends",
        {"extra_bytes": Parameter((int,), -1), "chunked": Parameter((bool,), False)},
        change_reply=replies.endless,
    ),
    FaultKind(
        "ignore_range",
        "return 200 with the whole object for a range request",
        change_reply=replies.ignore_range,
        condition=_STORAGE,
    ),
    FaultKind(
        "wrong_offset",
        "return 206 with a different offset than requested",
        {"shift": Parameter((int,), 1)},
        change_reply=replies.wrong_offset,
        condition=_STORAGE,
    ),
    FaultKind(
        "unsatisfiable",
        "return 416",
        change_reply=replies.unsatisfiable,
        condition={**_STORAGE, "ranged": True},
    ),
    FaultKind(
        "replaced",
        "replace the object permanently",
        {"longer_by": Parameter((int,), 0)},
        change_state=events.replaced,
        condition=_STORAGE,
    ),
    FaultKind(
        "url_expired",
        "return 400 ExpiredToken",
        change_reply=replies.url_expired,
        condition=_STORAGE,
        only_on_success=False,
    ),
    FaultKind(
        "signature_mismatch",
        "return 403 SignatureDoesNotMatch",
        change_reply=replies.signature_mismatch,
        condition=_STORAGE,
        only_on_success=False,
    ),
    FaultKind(
        "xml_200",
        "return an XML error with status 200",
        {"code": Parameter((str,), "InternalError")},
        change_reply=replies.xml_200,
    ),
    FaultKind(
        "html",
        "return an HTML page of a gateway",
        {"status": Parameter((int,), 503)},
        change_reply=replies.html,
        only_on_success=False,
    ),
    FaultKind(
        "status",
        "return this status",
        {
            "status": Parameter((int,), required=True),
            "body": Parameter((str,), ""),
            "headers": Parameter((dict,), {}),
        },
        change_reply=replies.status,
        only_on_success=False,
    ),
    FaultKind(
        "throttled",
        'return 429; retry_after is seconds, or "date" (in *seconds*), "past", "huge", "none"',
        {
            "retry_after": Parameter((int, str), 1, choices=("date", "past", "huge", "none")),
            "seconds": Parameter(_NUMBER, 1.0),
        },
        change_reply=replies.throttled,
        only_on_success=False,
    ),
    FaultKind(
        "unauthorized",
        "return 401 as UP42 does; applies to the token endpoints only if the rule names them",
        change_reply=replies.unauthorized,
        condition={**_API, "endpoint": [name for name in ENDPOINTS if name not in LOGIN_ENDPOINTS]},
        only_on_success=False,
    ),
    FaultKind(
        "revoke_tokens",
        "reject all tokens issued so far with 401",
        change_state=events.revoke_tokens,
        condition=_API,
    ),
    FaultKind(
        "expire_urls", "expire all URLs signed so far", change_state=events.expire_urls, condition=_STORAGE
    ),
    FaultKind(
        "truncated_json",
        "truncate the JSON document",
        _OFFSET,
        change_reply=replies.truncated_json,
        condition=_API,
    ),
    FaultKind(
        "wrong_type",
        "change the type of a JSON field (dotted path from the root)",
        {"field": Parameter((str,), "data"), "value": Parameter((object,), "surprise")},
        change_reply=replies.wrong_type,
        condition=_API,
    ),
    FaultKind(
        "error_in_200",
        "return an error document with status 200",
        {"code": Parameter((int, str), 500), "message": Parameter((str,), "Something went wrong")},
        change_reply=replies.error_in_200,
        condition=_API,
    ),
    FaultKind(
        "gzip_transcoded",
        "store the object with Content-Encoding gzip; decompress it for clients that do not accept gzip",
        change_reply=replies.gzip_transcoded,
        condition=_STORAGE,
    ),
    FaultKind(
        "repeat_pages",
        "overlap pages of a list; with *forever*, start again after the last entry",
        {"overlap": Parameter((int,), 1), "forever": Parameter((bool,), True)},
        change_state=events.repeat_pages,
        condition={**_API, "endpoint": "jobs"},
    ),
    FaultKind(
        "delete_jobs",
        "delete the oldest *count* jobs of the project before the page is sent",
        {"count": Parameter((int,), 1)},
        change_state=events.delete_jobs,
        condition={**_API, "endpoint": "jobs"},
    ),
    FaultKind(
        "delete_collections",
        "delete the oldest *count* collections of today's API before the page is sent",
        {"count": Parameter((int,), 1)},
        change_state=events.delete_collections,
        condition=_LISTS,
    ),
    FaultKind(
        "add_assets",
        "add *count* newer assets to today's API before the page is sent",
        {"count": Parameter((int,), 1)},
        change_state=events.add_assets,
        condition=_LISTS,
    ),
    FaultKind(
        "settle",
        "finish extractions, orders and processing jobs in progress before the page is sent",
        change_state=events.settle,
        condition=_LISTS,
    ),
    FaultKind(
        "next_link",
        "let the link to the next page point to another origin",
        {"origin": Parameter((str,), "http://api.up42.example")},
        change_reply=replies.next_link,
        condition=_STAC_LISTS,
    ),
    FaultKind(
        "foreign_hrefs",
        "let the hrefs of STAC assets point to another origin",
        {"origin": Parameter((str,), "https://tiles.up42.example")},
        change_reply=replies.foreign_hrefs,
        condition=_STAC_LISTS,
    ),
    FaultKind(
        "huge_list",
        "return a list of this size (of quicklooks, unless the rule names another list)",
        {"size_bytes": Parameter((int,), 200 << 20)},
        change_reply=replies.huge_list,
        condition={**_API, "endpoint": "quicklooks"},
    ),
    FaultKind(
        "hostile_names",
        "return names that are not valid file names (of quicklooks, unless the rule names another list)",
        change_reply=replies.hostile_names,
        condition={**_API, "endpoint": "quicklooks"},
    ),
    FaultKind(
        "without",
        "omit headers",
        {"headers": Parameter((list,), required=True)},
        change_reply=replies.without,
    ),
    FaultKind("no_hash", "omit x-goog-hash", change_reply=replies.no_hash, condition=_STORAGE),
    FaultKind("no_etag", "omit ETag", change_reply=replies.no_etag, condition=_STORAGE),
    FaultKind("no_length", "omit Content-Length and send a chunked body", change_reply=replies.no_length),
    FaultKind(
        "redirect",
        "redirect to another URL",
        {"location": Parameter((str,), required=True), "status": Parameter((int,), 302)},
        change_reply=replies.redirect,
        only_on_success=False,
    ),
)

FAULTS: dict[str, FaultKind] = {kind.name: kind for kind in _KINDS}
