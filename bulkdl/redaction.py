"""
Remove secrets from logs, reports and messages: registered values, and texts with the form of a secret.

``Redactor`` is for texts of bulkdl and keeps them readable. ``sanitize`` is for texts from a server. It
removes more, and returns one short line.

Every pattern works in linear time, because hostile text is matched on the event loop. A match starts at a
literal or within a bounded length, and an unbounded repetition cannot start again inside itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
QUOTE_CHARS = 200
_READ_CHARS = 4096  # only the first characters of a server's text are read
# Masking shorter secrets would make every line unreadable.
_MIN_SECRET = 4

_WORDS = (
    r"access_token|refresh_token|id_token|client_secret|api[_-]?key"
    r"|password|passwd|secret|authorization|cookie"
)
_SECRET_KEY = re.compile(rf"(?:^|[_-])(?:{_WORDS}|token|signature)$", re.IGNORECASE | re.ASCII)
_JWT = re.compile(r"eyJ[\w-]{6,}(?:\.[\w-]*)*", re.ASCII)  # or a part of one
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (_JWT, MASK),
    (
        re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?)(?:\w+\s+)?[^\s\"',}>]+", re.IGNORECASE),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(bearer\s+)(?!\*)[\w.~+/=%-]{6,}", re.IGNORECASE | re.ASCII), rf"\1{MASK}"),
    (re.compile(r"((?:x-(?:goog|amz)-)?signature(?:=|%3D))[^&\s\"'<>)]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(rf"\b((?:{_WORDS})=)[^&\s\"'<>)]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(rf"([\"'](?:{_WORDS})[\"']\s*:\s*[\"'])[^\"']+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(\w://)[^/\s:@]*:[^/\s@]+@", re.ASCII), rf"\1{MASK}@"),
)
# A text from a server may lose words, so everything that can be a secret is removed.
_SERVER_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bbasic\s+[\w.~+/=%-]{6,}", re.ASCII | re.IGNORECASE), MASK),
    (
        re.compile(
            r"(?:signature|token|password|passwd|secret|api_?key|credential|googleaccessid|authorization)"
            r"[\"']?\s*[=:]\s*[\"']?[^\s\"'&,;}]+",
            re.ASCII | re.IGNORECASE,
        ),
        MASK,
    ),
    (re.compile(r"\b[A-Za-z0-9]{8}\.[A-Za-z0-9]{30,}"), MASK),  # a project's API key
    (re.compile(r"(://)[^\s/@]+@"), rf"\1{MASK}@"),  # user and password in a URL
    (re.compile(r"\?[^\s\"'<>?=]*=[^\s\"'<>]*"), MASK),  # the query of a URL
    (
        re.compile(r"(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-)[A-Za-z0-9+/=_%-]{40,}"),
        MASK,
    ),  # any long code that is not a UUID
)

# Each shape contains one of these marks in lower case. A search for the marks first makes a line without
# secrets ten times cheaper than a match of each pattern on each text of the line.
_MARKS = (
    *("eyj", "authorization", "bearer", "signature", "token", "secret", "password", "passwd"),
    *("api_key", "api-key", "apikey", "cookie", "://"),
)

_PLAIN = frozenset({str, int, float, bool, type(None)})


def sanitize(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return *text* from a server in at most ``QUOTE_CHARS`` characters of one printable line.

    Args:
        secrets: Texts that are always removed.
    """
    clean = text[:_READ_CHARS]
    for secret in secrets:
        if secret:
            clean = clean.replace(secret, MASK)
    clean = _mask_shapes(_mask_shapes(clean, _SHAPES), _SERVER_SHAPES)
    clean = " ".join("".join(char if char.isprintable() else " " for char in clean).split())
    return clean if len(clean) <= QUOTE_CHARS else clean[: QUOTE_CHARS - 1] + "…"


def _mask_shapes(text: str, shapes: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for shape, replacement in shapes:
        text = shape.sub(replacement, text)
    return text


class Redactor:
    """Mask secrets in text and in nested values."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: str) -> None:
        """Mask *secret* from now on. Tokens are recognised by their shape and are not registered."""
        if len(secret) < _MIN_SECRET or _JWT.fullmatch(secret) or secret in self._secrets:
            return
        self._secrets |= {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
        longest_first = sorted(self._secrets, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        """Return *text* with all secrets masked."""
        if self._has_no_secret(text):
            return text
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return _mask_shapes(text, _SHAPES)

    def _has_no_secret(self, text: str) -> bool:
        """Return True if *text* certainly contains no secret, False if it must be searched."""
        if any(secret in text for secret in self._secrets):
            return False
        lowered = text.lower()
        return all(mark not in lowered for mark in _MARKS)

    def value(self, value: object) -> Any:
        """Return *value* with all secrets masked. Values that are not plain data are converted to text."""
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.text(bytes(value).decode("utf-8", "backslashreplace"))
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._mask_item(str(key), item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(item) for item in value]
        return self.text(str(value))

    def _mask_item(self, key: str, value: object) -> Any:
        if isinstance(value, (str, bytes)) and _SECRET_KEY.search(key):
            return MASK
        return self.value(value)

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """Mask secrets as a structlog processor, directly before the renderer."""
        if _is_flat(event) and self._has_no_secret("\0".join(_texts_of(event))):
            return event  # nearly every event; one search is sufficient for it
        masked: dict[str, Any] = self.value(event)
        return masked


def _is_flat(event: Mapping[str, Any]) -> bool:
    return all(type(key) is str and type(value) in _PLAIN for key, value in event.items())


def _texts_of(event: Mapping[str, Any]) -> Iterator[str]:
    for key, value in event.items():
        yield key
        if type(value) is str:
            yield value


redactor = Redactor()


def register_secret(secret: str) -> None:
    """Mask *secret* in every log line from now on."""
    redactor.register(secret)


def redact(text: str) -> str:
    """Return *text* without secrets, for output outside the logs."""
    return redactor.text(text)
