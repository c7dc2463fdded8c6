"""
Create and verify signed URLs in the format of Google Cloud Storage V2 signing.

A URL is verified by creating it again and comparing all bytes. A URL whose escapes were rewritten by the
client is therefore rejected. The signature always contains ``%2F`` and ``%3D`` to detect such clients.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
import time
import uuid
from enum import Enum
from hashlib import sha512
from urllib.parse import quote

_ACCESS_ID = "artifacts@up42-simulator.iam.gserviceaccount.com"
_DISPOSITION = "response-content-disposition"
_EXPIRES = re.compile(r"[?&]Expires=(\d{1,12})(?:&|$)")


class SignatureStatus(Enum):
    VALID = "good"
    EXPIRED = "expired"
    INVALID = "wrong"
    MISSING = "missing"


class Signer:
    """
    Attributes:
        life_s: Lifetime of a URL. Expires is rounded up to whole seconds.
    """

    def __init__(self, lifetime_s: float) -> None:
        self.life_s = lifetime_s
        self._secret = uuid.uuid4().bytes
        self._epoch = 0

    def expire_all(self) -> None:
        """Expire all URLs signed so far."""
        self._epoch += 1

    def sign(self, path: str, disposition: str = "") -> str:
        """Return *path* with the signed query, which contains *disposition* for the response."""
        parameter = f"{_DISPOSITION}={quote(disposition, safe='')}&" if disposition else ""
        return self._build_url(path, parameter, math.ceil(time.time() + self.life_s), self._epoch)

    def check(self, target: str) -> tuple[SignatureStatus, int]:
        """Verify *target* (path and query as received). Return the result and its Expires value."""
        path, _, query = target.partition("?")
        if "Signature=" not in query:
            return SignatureStatus.MISSING, 0
        found = _EXPIRES.search(f"?{query}")
        expires = int(found[1]) if found else 0
        head, separator, _ = query.partition("&")
        parameter = head + separator if head.startswith(f"{_DISPOSITION}=") else ""
        for epoch in range(self._epoch, -1, -1):
            if hmac.compare_digest(
                self._build_url(path, parameter, expires, epoch).encode(), target.encode()
            ):
                fresh = epoch == self._epoch and time.time() <= expires
                return (SignatureStatus.VALID if fresh else SignatureStatus.EXPIRED), expires
        return SignatureStatus.INVALID, expires

    def _build_url(self, path: str, parameter: str, expires: int, epoch: int) -> str:
        text = f"{epoch}\n{expires}\n{path}\n{parameter}".encode()
        digest = b"".join(hmac.digest(self._secret, bytes([part]) + text, sha512) for part in range(4))
        # 256 bytes as with an RSA key. Three leading 0xff bytes are "////" in base64
        signature = quote(base64.b64encode(b"\xff\xff\xff" + digest[3:]), safe="")
        return f"{path}?{parameter}GoogleAccessId={_ACCESS_ID}&Expires={expires}&Signature={signature}"
