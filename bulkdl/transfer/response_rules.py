"""
What a response means for a part: begin, continue, ask again, or fail. Pure functions of values.

The rule of resuming is here and nowhere else. Bytes are continued only when the server proves that
it speaks of the same object: a 206 that starts where the part ends, with the stored length and a
validator that does not differ. A 200 always begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from multidict import CIMultiDictProxy

from bulkdl.errors import TransferError
from bulkdl.http.errors import reason_of_status
from bulkdl.http.retry import http_date
from bulkdl.models import Kind, Reason, RemoteObject, ResumeState, Validator
from bulkdl.transfer.checksums import parse_goog_hash

# No length or offset has more digits: 64 bits are what the ledger and the file system hold.
_MAX_DIGITS = 19
_MAX_INTEGER = 2**63 - 1
_CONTENT_RANGE = re.compile(
    rf"bytes ([0-9]{{1,{_MAX_DIGITS}}})-([0-9]{{1,{_MAX_DIGITS}}})/([0-9]{{1,{_MAX_DIGITS}}}|\*)"
)
# Without a Date header our own clock stands in for the server's, with room for a clock that is wrong.
_OWN_CLOCK_MARGIN_S = 60.0
_SHOWN_CHARS = 40
_PROSE_TYPES = {
    Kind.ARCHIVE: (
        "text/html",
        "text/xml",
        "application/xml",
        "application/json",
        "application/problem+json",
    ),
    Kind.QUICKLOOK: (
        "text/html",
        "text/xml",
        "application/xml",
        "application/json",
        "application/problem+json",
    ),
    Kind.GEOJSON: ("text/html", "text/xml", "application/xml", "application/problem+json"),
}
_EXPIRED_CODES = ("ExpiredToken", "RequestTimeTooSkewed")


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """
    The head of a response, as values.

    Attributes:
        length_bytes: Content-Length, of this body.
        range_start: First byte of a 206; None when the header is missing or unreadable.
        range_total: Full length that the Content-Range tells.
        accepts_ranges: The server says that it takes ranges.
        stored_gzip: Storage keeps the object gzip-compressed and may be unpacking it for us.
    """

    status: int
    content_type: str
    content_encoding: str
    length_bytes: int | None
    range_start: int | None
    range_total: int | None
    object: RemoteObject
    stored_gzip: bool = False
    accepts_ranges: bool = False


@dataclass(frozen=True, slots=True)
class StartBody:
    """Byte 0 of *object* comes next; what the part holds is void."""

    object: RemoteObject


@dataclass(frozen=True, slots=True)
class ContinueBody:
    """The byte after the part's last one comes next."""

    object: RemoteObject


@dataclass(frozen=True, slots=True)
class RetryAcceptingGzip:
    """Ask again and accept gzip: only then do the stored bytes come, with length and digest."""


def read_response_info(
    status: int, headers: CIMultiDictProxy[str], source: str | None, *, now: datetime | None = None
) -> ResponseInfo:
    """
    Take from the headers of a response what the decisions need.

    Args:
        now: When the response came; by default the current time.
    """
    span = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    encoding = _encoding(headers.get("Content-Encoding", ""))
    length = _integer(headers.get("Content-Length"))
    total = _integer(headers.get("x-goog-stored-content-length"))
    range_total = _integer(span[3]) if span else None
    if total is None:
        total = range_total if status == 206 else (length if not encoding else None)
    return ResponseInfo(
        status=status,
        content_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        content_encoding=encoding,
        length_bytes=length,
        range_start=_integer(span[1]) if span else None,
        range_total=range_total,
        object=RemoteObject(
            source=source,
            validator=_validator(headers, now or datetime.now(UTC)),
            total_bytes=total,
            digests=parse_goog_hash(headers.getall("x-goog-hash", [])),
        ),
        accepts_ranges="bytes" in headers.get("Accept-Ranges", "").lower(),
        stored_gzip=headers.get("x-goog-stored-content-encoding", "").strip().lower() == "gzip",
    )


def _integer(text: str | None) -> int | None:
    if text is None or len(text) > _MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if value <= _MAX_INTEGER else None


def _encoding(text: str) -> str:
    """Content codings in lower case. ``identity`` is none (RFC 9110, section 8.4.1)."""
    codings = (coding.strip().lower() for coding in text.split(","))
    return ", ".join(coding for coding in codings if coding not in ("", "identity"))


def _validator(headers: CIMultiDictProxy[str], now: datetime) -> Validator:
    told = Validator.storable(
        headers.get("ETag"), headers.get("Last-Modified"), headers.get("x-goog-generation")
    )
    # A date beside an ETag only rules out other versions; a date alone must prove the version.
    if told.etag is None and not _is_strong(told.last_modified, headers.get("Date"), now):
        return replace(told, last_modified=None)
    return told


def _is_strong(last_modified: str | None, date: str | None, now: datetime) -> bool:
    """Whether the response is clearly younger than the date (RFC 9110, section 8.8.2.2)."""
    modified_at = http_date(last_modified)
    answered_at, margin_s = (now, _OWN_CLOCK_MARGIN_S) if date is None else (http_date(date), 1.0)
    if modified_at is None or answered_at is None:
        return False
    return (answered_at - modified_at).total_seconds() >= margin_s


def can_resume(state: ResumeState | None) -> bool:
    """Whether the part can be gone on with at all: there are bytes, and something to prove them by."""
    return state is not None and state.offset > 0 and _condition(state.object.validator) is not None


def is_complete(state: ResumeState | None) -> bool:
    """Whether every byte is there already and only verification is missing."""
    return state is not None and state.offset > 0 and state.offset == state.object.total_bytes


def request_headers(state: ResumeState | None, *, accept_gzip: bool) -> dict[str, str]:
    """Headers that ask for what is missing from a part that grows at its end."""
    headers = {"Accept-Encoding": "gzip" if accept_gzip else "identity"}
    if state is not None and can_resume(state):
        headers |= _range(state.object, state.offset, "")
    return headers


def segment_headers(
    stored: RemoteObject, at_bytes: int, end_bytes: int, *, accept_gzip: bool
) -> dict[str, str]:
    """Headers that ask for the bytes from *at_bytes* up to, not including, *end_bytes*."""
    encoding = {"Accept-Encoding": "gzip" if accept_gzip else "identity"}
    return encoding | _range(stored, at_bytes, str(end_bytes - 1))


def _range(stored: RemoteObject, first: int, last: str) -> dict[str, str]:
    condition = _condition(stored.validator)
    if condition is None:
        raise ValueError("a range needs a strong validator")
    return {"Range": f"bytes={first}-{last}", "If-Range": condition}


def _condition(validator: Validator) -> str | None:
    """
    Return what may stand in If-Range (RFC 9110, section 13.1.5).

    This is a strong ETag. Without any ETag it is a strong date; ``read_head`` keeps no other date alone.
    """
    if validator.etag is not None:
        return None if validator.etag.startswith("W/") else validator.etag
    return validator.last_modified


def supports_segments(head: ResponseInfo, least_bytes: int) -> bool:
    """Whether the object of *head* is worth several connections, and can be had in pieces with proof."""
    stored = head.object
    return (
        head.status == 200
        and head.accepts_ranges
        and not head.content_encoding
        and stored.total_bytes is not None
        and stored.total_bytes >= least_bytes
        and stored.total_bytes == head.length_bytes
        and _condition(stored.validator) is not None
    )


def decide(
    head: ResponseInfo, state: ResumeState | None, kind: Kind, *, accept_gzip: bool
) -> StartBody | ContinueBody | RetryAcceptingGzip:
    """
    Say what *head* means for a part in *state*.

    Raises:
        TransferError: The body, whatever it is, is not the bytes that were asked for.
    """
    _refuse_status(head)
    _refuse_prose(head, kind)
    if head.status == 206:
        if state is None or not can_resume(state):
            raise TransferError(
                Reason.UNEXPECTED_CONTENT, "a partial answer (HTTP 206) to a request for the whole"
            )
        return _continue(head, state.object, state.offset)
    if head.stored_gzip and head.content_encoding != "gzip" and not accept_gzip:
        return RetryAcceptingGzip()
    if kind is Kind.ARCHIVE and head.content_encoding and not head.stored_gzip:
        raise TransferError(
            Reason.UNEXPECTED_CONTENT,
            f"unexpected Content-Encoding {head.content_encoding[:_SHOWN_CHARS]!a} (none was requested)",
        )
    return StartBody(head.object)


def _refuse_status(head: ResponseInfo) -> None:
    if head.status in (200, 206):
        return
    if head.status == 416:
        raise TransferError(Reason.OBJECT_CHANGED, "the object is shorter than the part (HTTP 416)")
    raise TransferError(refused_for(head.status), f"HTTP {head.status}")


def refused_for(status: int) -> Reason:
    """
    Return the reason of a *status* that is not a success.

    A 404 does not prove that there is no such output: a gateway or a storage can send it for a while.
    Only the API can say so, in its error envelope; its client raises that as an ``ApiError``.
    """
    return Reason.INVALID_RESPONSE if status == 404 else reason_of_status(status) or Reason.UNEXPECTED_CONTENT


def _refuse_prose(head: ResponseInfo, kind: Kind) -> None:
    if head.content_type in _PROSE_TYPES[kind]:
        raise TransferError(
            Reason.ERROR_PAGE, f"the server sent {head.content_type} where a {kind.value} was asked for"
        )


class RangeIgnored(TransferError):
    """A 200 where a piece was asked for: another object, no ranges any more, or no object at all."""


def check_segment_response(head: ResponseInfo, stored: RemoteObject, at_bytes: int, kind: Kind) -> None:
    """
    Make sure that the body of *head* continues *stored* at *at_bytes*.

    Raises:
        TransferError: It does not. RangeIgnored makes the pieces void, if that body is an archive.
    """
    _refuse_status(head)
    _refuse_prose(head, kind)
    if head.status != 206:
        raise RangeIgnored(Reason.OBJECT_CHANGED, "the server sent the whole where a piece was asked for")
    _continue(head, stored, at_bytes)


def _continue(head: ResponseInfo, known: RemoteObject, at_bytes: int) -> ContinueBody:
    if head.range_start != at_bytes:
        raise TransferError(
            Reason.UNEXPECTED_CONTENT, f"asked for bytes from {at_bytes}, got them from {head.range_start}"
        )
    if head.range_total is not None and known.total_bytes not in (None, head.range_total):
        raise TransferError(
            Reason.OBJECT_CHANGED, f"the object has {head.range_total} bytes now, it had {known.total_bytes}"
        )
    if _differs(known.validator, head.object.validator):
        raise TransferError(Reason.OBJECT_CHANGED, "the object is another version now")
    if head.object.digests and known.digests and not set(head.object.digests) & set(known.digests):
        raise TransferError(Reason.OBJECT_CHANGED, "the object has another digest now")
    return ContinueBody(
        known if known.total_bytes is not None else replace(known, total_bytes=head.range_total)
    )


def _differs(known: Validator, told: Validator) -> bool:
    """Whether any validator that both sides name is another one."""
    pairs = (
        (known.etag, told.etag),
        (known.last_modified, told.last_modified),
        (known.generation, told.generation),
    )
    return any(ours is not None and theirs is not None and ours != theirs for ours, theirs in pairs)


def storage_refusal(status: int, body: str, *, url_expired: bool) -> Reason:
    """
    What a 4xx of the storage means.

    Args:
        body: The beginning of the XML error.
        url_expired: Whether the URL's own expiry has passed.
    """
    if status in (401, 403):
        return Reason.URL_EXPIRED
    if status == 400 and (url_expired or any(code in body for code in _EXPIRED_CODES)):
        return Reason.URL_EXPIRED
    return refused_for(status)


def xml_error(body: str) -> str:
    """Code of an XML error of the storage, for a message; empty when there is none."""
    match = re.search(r"<Code>([A-Za-z0-9]{1,64})</Code>", body)
    return match[1] if match else ""


def max_body_bytes(kind: Kind, announced: int | None, ceilings: Mapping[Kind, int]) -> int | None:
    """How many bytes may come: what was announced, else the ceiling of the kind (None: no bound)."""
    ceiling = ceilings.get(kind)
    if announced is None:
        return ceiling
    if ceiling is not None and announced > ceiling:
        raise TransferError(Reason.TOO_LARGE, f"{announced} bytes announced, at most {ceiling} allowed")
    return announced
