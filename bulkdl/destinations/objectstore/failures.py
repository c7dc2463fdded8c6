"""Convert the errors of an object store to ``DestinationError``, with one line for the user."""

from __future__ import annotations

import re

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from bulkdl.errors import ConfigError, DestinationError
from bulkdl.models import Reason

STORE_ERRORS = (BaseError, FileNotFoundError)
"""What the client of a store raises. A missing object and a missing bucket are FileNotFoundError."""

_MAX_DETAIL_CHARS = 300
_CODE = re.compile(r"<Code>([A-Za-z0-9_.-]{1,80})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_REGION = re.compile(r"<Region>([a-z0-9-]{1,40})</Region>|expecting '([a-z0-9-]{1,40})'")
_INVALID_CERTIFICATE = re.compile(r"InvalidCertificate\((?:[\s(]|Other(?:Error)?\b)*(\w+)")
_URL = re.compile(r"https?://\S+")

_MISSING_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
_FULL = {
    "QuotaExceeded",
    "InsufficientStorage",
    "InsufficientCapacity",
    "XMinioStorageFull",
    "AccountIsOverQuota",
}
_THROTTLED = {
    "SlowDown",
    "TooManyRequests",
    "Throttling",
    "ThrottlingException",
    "ServerBusy",
    "rateLimitExceeded",
}
_DENIED = {
    "AccessDenied",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
# Without credentials in variables or files, the client asks the metadata service of the machine.
_NO_CREDENTIALS = re.compile(
    r"credential|token request|/latest/(?:api/token|meta-data)|169\.254\.\d|computeMetadata|oauth2/",
    re.IGNORECASE,
)
_NOT_SENT = re.compile(r"error sending request|connection|dns|timed out|timeout", re.IGNORECASE)


class MissingBucketError(DestinationError):
    """The bucket does not exist."""


class WrongRegionError(DestinationError):
    """The bucket is in another region."""


class TlsError(DestinationError):
    """The certificate of the store is not trusted."""


def convert_error(error: Exception, subject: str) -> DestinationError:
    """
    Return the DestinationError for *error*, which a store raised.

    Args:
        subject: The operation and its object, for the message.
    """
    text = str(error)
    code = match[1] if (match := _CODE.search(text)) else ""
    status = int(match[1]) if (match := _STATUS.search(text)) else 0
    detail = f"{subject}: {_describe(error, code, status)}"
    if code in _MISSING_BUCKET:
        return MissingBucketError(Reason.DISK_ERROR, f"{subject}: the bucket does not exist ({code})")
    if code in _WRONG_REGION or "incorrectly configured region" in text:
        return WrongRegionError(Reason.DISK_ERROR, f"{subject}: {_describe_region(text)}")
    if certificate := _INVALID_CERTIFICATE.search(text):
        return TlsError(Reason.DISK_ERROR, f"{subject}: {_describe_tls(certificate[1])}")
    if code in _FULL or status == 507:
        return DestinationError(Reason.DISK_FULL, f"{subject}: the quota is used up ({code or status})")
    if code == "RequestTimeTooSkewed":
        return DestinationError(
            Reason.STORE_DENIED, f"{subject}: the clock of this machine is wrong ({code})"
        )
    if code in _DENIED or isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return DestinationError(Reason.STORE_DENIED, detail)
    return DestinationError(_temporary_reason(error, text, code, status), detail)


def _temporary_reason(error: Exception, text: str, code: str, status: int) -> Reason:
    if code in _THROTTLED or status == 429:
        return Reason.THROTTLED
    if code or status or isinstance(error, FileNotFoundError):
        return Reason.SERVER_ERROR
    if _NO_CREDENTIALS.search(text):
        return Reason.STORE_DENIED
    return Reason.UNREACHABLE if _NOT_SENT.search(text) else Reason.SERVER_ERROR


def to_config_error(location: str, error: DestinationError) -> Exception:
    """Return the ConfigError for an *error* that a change of the settings removes; else *error*."""
    if isinstance(error, MissingBucketError):
        return ConfigError(
            f"--output {location}",
            "the bucket does not exist; create it, or check its name and the endpoint",
        )
    if isinstance(error, (WrongRegionError, TlsError)):
        return ConfigError(f"--output {location}", error.detail)
    return error


def first_line(error: Exception) -> str:
    """Return the first line of the text of *error* without URLs, in bounded length."""
    line = str(error).strip().split("\n", 1)[0]
    return _URL.sub("the store", line)[:_MAX_DETAIL_CHARS]


def _describe(error: Exception, code: str, status: int) -> str:
    if code in _DENIED:
        return f"permission denied ({code})"
    if code or status:
        return (
            f"the store returned {f'HTTP {status}' if status else 'an error'}{f' ({code})' if code else ''}"
        )
    if _NO_CREDENTIALS.search(str(error)):
        return "no credentials found; set the variables of the provider, or see docs/object-stores.md"
    return first_line(error)


def _describe_region(text: str) -> str:
    match = _REGION.search(text)
    region = (match[1] or match[2]) if match else ""
    hint = f"set AWS_REGION={region}" if region else "set AWS_REGION to the region of the bucket"
    return f"the bucket is in another region; {hint}"


def _describe_tls(problem: str) -> str:
    return (
        f"the certificate of the store is not trusted ({problem}); set object_store.ca_file or SSL_CERT_FILE"
    )
