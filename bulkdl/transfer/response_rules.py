"""
Decide what a response means for a download: start, continue, repeat the request, or fail. Pure functions.

Only this module decides whether a download is resumed. Bytes are continued only if the response proves that
it has the same object. Such a response is a 206 that starts where the partial file ends, with the stored
length and without a different validator. A 200 always starts at byte 0.
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
from bulkdl.models import Reason, RemoteObject, ResumeState, Validator
from bulkdl.source_spec import KindSpec
from bulkdl.transfer.checksums import parse_goog_hash

# The ledger and the file system store lengths and offsets in 64 bits, which are at most 19 digits.
_MAX_DIGITS = 19
_MAX_INTEGER = 2**63 - 1
_CONTENT_RANGE = re.compile(
    rf"bytes ([0-9]{{1,{_MAX_DIGITS}}})-([0-9]{{1,{_MAX_DIGITS}}})/([0-9]{{1,{_MAX_DIGITS}}}|\*)"
)
# Without a Date header the local clock is used. The margin allows for an inaccurate clock.
_OWN_CLOCK_MARGIN_S = 60.0
_SHOWN_CHARS = 40
_EXPIRED_CODES = ("ExpiredToken", "RequestTimeTooSkewed")


@dataclass(frozen=True, slots=True)
class ResponseInfo:
    """
    The status and headers of a response as values.

    Attributes:
        length_bytes: Content-Length of this body.
        range_start: First byte of a 206; None if the header is missing or invalid.
        range_total: Length of the whole object by Content-Range.
        accepts_ranges: Whether the server announces support of ranges.
        stored_gzip: Whether the storage keeps the object gzip-compressed; it may decompress it in transit.
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
    """The body starts at byte 0 of *object*; existing bytes are invalid."""

    object: RemoteObject


@dataclass(frozen=True, slots=True)
class ContinueBody:
    """The body continues behind the last byte of the partial file."""

    object: RemoteObject


@dataclass(frozen=True, slots=True)
class RetryAcceptingGzip:
    """Repeat the request and accept gzip: only then the server sends the stored bytes and their digest."""


def read_response_info(
    status: int, headers: CIMultiDictProxy[str], source: str | None, *, now: datetime | None = None
) -> ResponseInfo:
    """
    Read the headers on which the decisions depend.

    Args:
        now: Time of the response; by default the current time.
    """
    content_range = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    encoding = _content_codings(headers.get("Content-Encoding", ""))
    length = _integer(headers.get("Content-Length"))
    total = _integer(headers.get("x-goog-stored-content-length"))
    range_total = _integer(content_range[3]) if content_range else None
    if total is None:
        total = range_total if status == 206 else (length if not encoding else None)
    return ResponseInfo(
        status=status,
        content_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
        content_encoding=encoding,
        length_bytes=length,
        range_start=_integer(content_range[1]) if content_range else None,
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


def _content_codings(text: str) -> str:
    """Return the content codings in lower case. ``identity`` is not a coding (RFC 9110, section 8.4.1)."""
    codings = (coding.strip().lower() for coding in text.split(","))
    return ", ".join(coding for coding in codings if coding not in ("", "identity"))


def _validator(headers: CIMultiDictProxy[str], now: datetime) -> Validator:
    validator = Validator.from_untrusted(
        headers.get("ETag"), headers.get("Last-Modified"), headers.get("x-goog-generation")
    )
    # A date next to an ETag only excludes other versions. A date alone must prove the version.
    if validator.etag is None and not _is_strong(validator.last_modified, headers.get("Date"), now):
        return replace(validator, last_modified=None)
    return validator


def _is_strong(last_modified: str | None, date: str | None, now: datetime) -> bool:
    """Return whether the response is clearly newer than *last_modified* (RFC 9110, section 8.8.2.2)."""
    modified_at = http_date(last_modified)
    responded_at, margin_s = (now, _OWN_CLOCK_MARGIN_S) if date is None else (http_date(date), 1.0)
    if modified_at is None or responded_at is None:
        return False
    return (responded_at - modified_at).total_seconds() >= margin_s


def can_resume(state: ResumeState | None) -> bool:
    """Return whether the partial file has bytes and a validator that can prove them."""
    return state is not None and state.offset > 0 and _if_range(state.object.validator) is not None


def is_complete(state: ResumeState | None) -> bool:
    """Return whether all bytes were received and only verification is missing."""
    return state is not None and state.offset > 0 and state.offset == state.object.total_bytes


def request_headers(state: ResumeState | None, *, accept_gzip: bool) -> dict[str, str]:
    """Return the headers of a request for the bytes that follow a partial file."""
    headers = {"Accept-Encoding": "gzip" if accept_gzip else "identity"}
    if state is not None and can_resume(state):
        headers |= _range(state.object, state.offset, "")
    return headers


def segment_headers(
    stored: RemoteObject, start_bytes: int, end_bytes: int, *, accept_gzip: bool
) -> dict[str, str]:
    """Return the headers of a request for the bytes from *start_bytes* up to, excluding, *end_bytes*."""
    encoding = {"Accept-Encoding": "gzip" if accept_gzip else "identity"}
    return encoding | _range(stored, start_bytes, str(end_bytes - 1))


def _range(stored: RemoteObject, first: int, last: str) -> dict[str, str]:
    condition = _if_range(stored.validator)
    if condition is None:
        raise ValueError("a range needs a strong validator")
    return {"Range": f"bytes={first}-{last}", "If-Range": condition}


def _if_range(validator: Validator) -> str | None:
    """
    Return the value for If-Range (RFC 9110, section 13.1.5).

    It is a strong ETag. If the object has no ETag, it is a strong date.
    ``read_response_info`` removes a date without an ETag unless it is strong.
    """
    if validator.etag is not None:
        return None if validator.etag.startswith("W/") else validator.etag
    return validator.last_modified


def supports_segments(info: ResponseInfo, min_bytes: int) -> bool:
    """Return whether an object of at least *min_bytes* can be requested in ranges that prove its version."""
    stored = info.object
    return (
        info.status == 200
        and info.accepts_ranges
        and not info.content_encoding
        and stored.total_bytes is not None
        and stored.total_bytes >= min_bytes
        and stored.total_bytes == info.length_bytes
        and _if_range(stored.validator) is not None
    )


def decide(
    info: ResponseInfo, state: ResumeState | None, kind: KindSpec, *, accept_gzip: bool
) -> StartBody | ContinueBody | RetryAcceptingGzip:
    """
    Decide what *info* means for a partial file in *state*.

    Raises:
        TransferError: The body is not the requested bytes.
    """
    _reject_status(info)
    _reject_error_page(info, kind)
    if info.status == 206:
        if state is None or not can_resume(state):
            raise TransferError(
                Reason.UNEXPECTED_CONTENT,
                "unexpected partial response (HTTP 206) to a request without a range",
            )
        return _continue(info, state.object, state.offset)
    if info.stored_gzip and info.content_encoding != "gzip" and not accept_gzip:
        return RetryAcceptingGzip()
    if kind.rejects_encoding and info.content_encoding and not info.stored_gzip:
        raise TransferError(
            Reason.UNEXPECTED_CONTENT,
            f"unexpected Content-Encoding {info.content_encoding[:_SHOWN_CHARS]!a} (none was requested)",
        )
    return StartBody(info.object)


def _reject_status(info: ResponseInfo) -> None:
    if info.status in (200, 206):
        return
    if info.status == 416:
        raise TransferError(Reason.OBJECT_CHANGED, "the object is shorter than the partial file (HTTP 416)")
    raise TransferError(reason_for_status(info.status), f"HTTP {info.status}")


def reason_for_status(status: int) -> Reason:
    """
    Return the reason for a *status* that is not a success.

    A 404 does not prove that the output does not exist: a gateway or a storage can send it temporarily. Only
    the error envelope of the API proves it, and the API client raises an ``ApiError`` for that.
    """
    return Reason.INVALID_RESPONSE if status == 404 else reason_of_status(status) or Reason.UNEXPECTED_CONTENT


def _reject_error_page(info: ResponseInfo, kind: KindSpec) -> None:
    if info.content_type in kind.error_page_types:
        raise TransferError(
            Reason.ERROR_PAGE, f"unexpected Content-Type {info.content_type}; expected {kind.label}"
        )


class RangeIgnored(TransferError):
    """The response to a range request was a 200: a new object, a server without ranges, or an error page."""


def check_segment_response(
    info: ResponseInfo, stored: RemoteObject, start_bytes: int, kind: KindSpec
) -> None:
    """
    Check that the body of *info* continues *stored* at *start_bytes*.

    Raises:
        RangeIgnored: The body is the whole object; if it is an archive, existing segments are invalid.
        TransferError: It is not the requested range.
    """
    _reject_status(info)
    _reject_error_page(info, kind)
    if info.status != 206:
        raise RangeIgnored(Reason.OBJECT_CHANGED, "the server ignored the range (HTTP 200)")
    _continue(info, stored, start_bytes)


def _continue(info: ResponseInfo, stored: RemoteObject, start_bytes: int) -> ContinueBody:
    if info.range_start != start_bytes:
        raise TransferError(
            Reason.UNEXPECTED_CONTENT,
            f"unexpected range: it starts at byte {info.range_start}, expected byte {start_bytes}",
        )
    if info.range_total is not None and stored.total_bytes not in (None, info.range_total):
        raise TransferError(
            Reason.OBJECT_CHANGED,
            f"the object changed: it has {info.range_total} bytes, expected {stored.total_bytes}",
        )
    if _differs(stored.validator, info.object.validator):
        raise TransferError(Reason.OBJECT_CHANGED, "the object changed: it has a different validator")
    if info.object.digests and stored.digests and not set(info.object.digests) & set(stored.digests):
        raise TransferError(Reason.OBJECT_CHANGED, "the object changed: it has a different checksum")
    return ContinueBody(
        stored if stored.total_bytes is not None else replace(stored, total_bytes=info.range_total)
    )


def _differs(stored: Validator, received: Validator) -> bool:
    """Return whether a validator that both sides have is different."""
    pairs = (
        (stored.etag, received.etag),
        (stored.last_modified, received.last_modified),
        (stored.generation, received.generation),
    )
    return any(old is not None and new is not None and old != new for old, new in pairs)


def reason_for_storage_error(status: int, body: str, *, url_expired: bool) -> Reason:
    """
    Return the reason for an error response of the storage.

    Args:
        body: The start of the XML error document.
        url_expired: Whether the expiry time of the URL has passed.
    """
    if status in (401, 403):
        return Reason.URL_EXPIRED
    if status == 400 and (url_expired or any(code in body for code in _EXPIRED_CODES)):
        return Reason.URL_EXPIRED
    return reason_for_status(status)


def xml_error_code(body: str) -> str:
    """Return the code of an XML error of the storage for a message; empty if there is none."""
    match = re.search(r"<Code>([A-Za-z0-9]{1,64})</Code>", body)
    return match[1] if match else ""


def max_body_bytes(kind: str, total_bytes: int | None, limits: Mapping[str, int]) -> int | None:
    """
    Return the maximum size of a body: the announced size, otherwise the limit of the kind (None: no limit).

    Raises:
        TransferError: The announced size is above the limit of the kind.
    """
    limit = limits.get(kind)
    if total_bytes is None:
        return limit
    if limit is not None and total_bytes > limit:
        raise TransferError(Reason.TOO_LARGE, f"the object has {total_bytes} bytes; expected at most {limit}")
    return total_bytes
