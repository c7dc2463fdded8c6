"""
Parse signed URLs, which are short-lived and contain a secret in their query.

aiohttp gets a URL exactly as it was signed: re-encoding ``%2F`` in the signature would invalidate it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from yarl import URL

# Parameters of the permission and its expiry. They do not choose the object.
_SIGNING = frozenset({"googleaccessid", "expires", "signature", "awsaccesskeyid"})
_SIGNING_PREFIXES = ("x-goog-", "x-amz-", "response-content-")


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """
    A signed URL and the values read from it.

    Attributes:
        url: The URL as issued, byte for byte. ``repr`` does not show it.
        source: Identity of the object: the URL without its query, which may be logged and stored. Two URLs
            with the same source refer to the same object.
        host: Host and port.
        expires_at: Expiry time by the query (V2 ``Expires``, V4 ``X-Goog-Date`` + ``X-Goog-Expires``).
    """

    url: URL = field(repr=False)
    source: str
    host: str
    expires_at: datetime | None

    @classmethod
    def parse(cls, text: str) -> SignedUrl:
        """Parse *text*; an expiry that is missing or invalid is None."""
        url = URL(text, encoded=True)
        return cls(url, _source(url), url.host_port_subcomponent or "", _expiry(url))

    def is_valid_at(self, now: datetime, margin_s: float) -> bool:
        """Return whether the URL is valid for at least *margin_s* after *now*."""
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
    # It is unknown what these parameters choose and whether they are secret, so only a hash is kept.
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
