"""
A signed URL: opaque, short-lived, secret in its query.

It is given to aiohttp exactly as it was signed: re-encoding ``%2F`` inside the signature would
make it another URL.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from yarl import URL

# Parameters that say who may fetch and until when, not what is fetched.
_SIGNING = frozenset({"googleaccessid", "expires", "signature", "awsaccesskeyid"})
_SIGNING_PREFIXES = ("x-goog-", "x-amz-", "response-content-")


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """
    Attributes:
        url: As issued, byte for byte. Not shown by ``repr``.
        source: Which object it is: the URL without its query, which may be logged and stored. Two
            URLs with one source lead to one object.
        host: Host and port.
        expires_at: As its query tells (V2 ``Expires``, V4 ``X-Goog-Date`` + ``X-Goog-Expires``).
    """

    url: URL = field(repr=False)
    source: str
    host: str
    expires_at: datetime | None

    @classmethod
    def parse(cls, text: str) -> SignedUrl:
        url = URL(text, encoded=True)
        return cls(url, _source(url), url.host_port_subcomponent or "", _expiry(url))

    def fresh(self, now: datetime, margin_s: float) -> bool:
        """Whether a request sent at *now* should still be let in."""
        return self.expires_at is None or now + timedelta(seconds=margin_s) < self.expires_at


def _source(url: URL) -> str:
    plain = str(url.with_query(None).with_fragment(None).with_user(None))
    chosen = sorted(
        f"{name}={value}"
        for name, value in url.query.items()
        if name.lower() not in _SIGNING and not name.lower().startswith(_SIGNING_PREFIXES)
    )
    if not chosen:
        return plain
    # What these parameters choose is unknown, and so is whether they are secret: only a mark is kept.
    return f"{plain}#{hashlib.sha256('&'.join(chosen).encode()).hexdigest()[:16]}"


def _expiry(url: URL) -> datetime | None:
    try:
        if "Expires" in url.query:
            return datetime.fromtimestamp(int(url.query["Expires"]), UTC)
        if "X-Goog-Expires" in url.query:
            signed_at = datetime.strptime(url.query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return signed_at + timedelta(seconds=int(url.query["X-Goog-Expires"]))
    except (ValueError, KeyError, OverflowError, OSError):
        return None
    return None
