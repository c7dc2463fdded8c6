"""
Implement the storage host: objects for signed URLs, XML errors as in Google Cloud Storage.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from bulkdl.simulator.lazy_bytes import BlobSlice, LiteralBytes
from bulkdl.simulator.messages import Headers, ReceivedRequest, Reply
from bulkdl.simulator.objects import Bucket, BucketObject
from bulkdl.simulator.signing import SignatureStatus, Signer

_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class Storage:
    def __init__(self, bucket: Bucket, signer: Signer, *, strict_auth: bool) -> None:
        self.bucket, self._signer = bucket, signer
        self._strict_auth = strict_auth

    async def handle(self, call: ReceivedRequest) -> Reply:
        error_reply = self._find_error(call)
        if error_reply:
            return error_reply
        stored = await self.bucket.get(call.path)
        if stored is None:
            return xml_error(404, "NoSuchKey", "The specified key does not exist.")
        if_match = call.headers.get("If-Match")
        if if_match is not None and if_match not in {"*", stored.checksums.etag}:
            return xml_error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
        return _with_disposition(range_reply(stored, call), call)

    def _find_error(self, call: ReceivedRequest) -> Reply | None:
        if call.method not in {"GET", "HEAD"}:
            return xml_error(
                405, "MethodNotAllowed", "The specified method is not allowed against this resource."
            )
        if self._strict_auth and "Authorization" in call.headers:
            return xml_error(400, "InvalidArgument", "Only one auth mechanism allowed.")
        verdict, expires = self._signer.check(call.target)
        match verdict:
            case SignatureStatus.MISSING:
                problem = "Anonymous caller does not have storage.objects.get access"
                return xml_error(403, "AccessDenied", "Access denied.", f"{problem} to {call.path[1:]}.")
            case SignatureStatus.INVALID:
                return signature_mismatch_error()
            case SignatureStatus.EXPIRED:
                return expired_token_error(expires)
            case SignatureStatus.VALID:
                return None


def _with_disposition(reply: Reply, call: ReceivedRequest) -> Reply:
    """Add the Content-Disposition that the signed URL requests, without control characters."""
    disposition = call.query.get("response-content-disposition", "")
    text = "".join(char for char in disposition if char.isprintable())
    return reply.with_headers(("Content-Disposition", text)) if text and reply.is_success else reply


def xml_error(status: int, code: str, message: str, details: str = "") -> Reply:
    more = f"<Details>{details}</Details>" if details else ""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    text = f"<?xml version='1.0' encoding='UTF-8'?>{error}"
    return Reply(
        status,
        (("Content-Type", "application/xml; charset=UTF-8"), *_server_headers()),
        LiteralBytes(text.encode()),
    )


def expired_token_error(expires: int) -> Reply:
    expired_at = datetime.fromtimestamp(expires, UTC).isoformat()
    details = f"The provided token has expired. Request signature expired at: {expired_at}"
    return xml_error(400, "ExpiredToken", "Invalid argument.", details)


def signature_mismatch_error() -> Reply:
    return xml_error(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. "
        "Check your Google secret key and signing method.",
    )


def unsatisfiable_range_error(size: int) -> Reply:
    reply = xml_error(416, "InvalidRange", "The requested range cannot be satisfied.")
    return reply.with_headers(("Content-Range", f"bytes */{size}"))


def full_reply(stored: BucketObject) -> Reply:
    return Reply(200, object_headers(stored), stored.body)


def partial_reply(stored: BucketObject, start: int, stop: int) -> Reply:
    """Return 206 with the bytes from *start* to *stop* (exclusive)."""
    content_range = ("Content-Range", f"bytes {start}-{stop - 1}/{stored.body.size}")
    return Reply(206, (*object_headers(stored), content_range), BlobSlice(stored.body, start, stop))


def range_reply(stored: BucketObject, call: ReceivedRequest) -> Reply:
    """Apply Range and If-Range. A request for several ranges returns the whole object."""
    found = _RANGE.match(call.headers.get("Range", "").strip())
    if not found or found[1] == found[2] == "" or not _is_same_version(stored, call.headers.get("If-Range")):
        return full_reply(stored)
    size = stored.body.size
    if found[1]:
        start = int(found[1])
        stop = min(size, int(found[2]) + 1) if found[2] else size
        if stop <= start < size:
            return full_reply(stored)
    else:
        start, stop = max(0, size - int(found[2])), size
    if start >= size:
        return unsatisfiable_range_error(size)
    return partial_reply(stored, start, stop)


def _is_same_version(stored: BucketObject, validator: str | None) -> bool:
    """Compare as in RFC 9110, 13.1.5: a strong ETag, or a date that equals Last-Modified."""
    if validator is None or validator == stored.checksums.etag:
        return True
    if validator.startswith(('"', "W/")):
        return False
    try:
        return parsedate_to_datetime(validator) == stored.modified_at
    except ValueError:
        return False


def object_headers(stored: BucketObject) -> Headers:
    hashes: list[tuple[str, str]] = [("x-goog-hash", f"crc32c={stored.checksums.crc32c}")]
    if stored.checksums.md5:
        hashes.append(("x-goog-hash", f"md5={stored.checksums.md5}"))
    else:
        hashes.append(("x-goog-component-count", "8"))
    return (
        ("Accept-Ranges", "bytes"),
        ("Content-Type", stored.content_type),
        ("ETag", stored.checksums.etag),
        ("Last-Modified", format_datetime(stored.modified_at, usegmt=True)),
        ("Cache-Control", "private, max-age=0"),
        ("x-goog-generation", str(stored.generation)),
        ("x-goog-metageneration", "1"),
        *hashes,
        ("x-goog-stored-content-encoding", "identity"),
        ("x-goog-stored-content-length", str(stored.body.size)),
        ("x-goog-storage-class", "STANDARD"),
        *_server_headers(),
    )


def _server_headers() -> Headers:
    return (
        ("X-GUploader-UploadID", uuid.uuid4().hex),
        ("Server", "UploadServer"),
    )
