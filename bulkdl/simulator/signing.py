"""
Signed URLs in the shape of Google Cloud Storage's V2 signing.

A URL is checked by making it again and comparing every byte, so one whose escapes a client has
rewritten is refused. Its signature always has ``%2F`` and ``%3D`` in it, to catch those that do.
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
_EXPIRES = re.compile(r"[?&]Expires=(\d{1,12})(?:&|$)")


class Verdict(Enum):
    GOOD = "good"
    EXPIRED = "expired"
    WRONG = "wrong"
    MISSING = "missing"


class Signer:
    """
    Attributes:
        life_s: Expires is in whole seconds, rounded up, as it has to be on the wire.
    """

    def __init__(self, life_s: float) -> None:
        self.life_s = life_s
        self._secret = uuid.uuid4().bytes
        self._epoch = 0

    def expire_all(self) -> None:
        """Every URL signed so far has expired."""
        self._epoch += 1

    def sign(self, path: str) -> str:
        """*path* with its query."""
        return self._signed(path, math.ceil(time.time() + self.life_s), self._epoch)

    def check(self, target: str) -> tuple[Verdict, int]:
        """The verdict on a request for *target* (path and query as received), and the Expires it names."""
        path, _, query = target.partition("?")
        if "Signature=" not in query:
            return Verdict.MISSING, 0
        found = _EXPIRES.search(f"?{query}")
        expires = int(found[1]) if found else 0
        for epoch in range(self._epoch, -1, -1):
            if hmac.compare_digest(self._signed(path, expires, epoch).encode(), target.encode()):
                fresh = epoch == self._epoch and time.time() <= expires
                return (Verdict.GOOD if fresh else Verdict.EXPIRED), expires
        return Verdict.WRONG, expires

    def _signed(self, path: str, expires: int, epoch: int) -> str:
        text = f"{epoch}\n{expires}\n{path}".encode()
        digest = b"".join(hmac.digest(self._secret, bytes([part]) + text, sha512) for part in range(4))
        # 256 bytes as of an RSA key; three bits-all-set bytes in front are "////" in base64
        signature = quote(base64.b64encode(b"\xff\xff\xff" + digest[3:]), safe="")
        return f"{path}?GoogleAccessId={_ACCESS_ID}&Expires={expires}&Signature={signature}"
