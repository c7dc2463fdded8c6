"""
Keeps secrets out of logs, reports and messages: those registered by value, and those known by their shape.

``Redactor`` serves our own texts and keeps them readable. ``sanitize`` serves texts from a server: it
removes more, and returns one short line.

Every pattern works in linear time, because hostile text reaches them on the event loop: a match starts at a
literal or within a bounded length, and an unbounded run cannot be entered again from inside itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
QUOTE_CHARS = 200
_READ_CHARS = 4096  # no more than this of a server's text is read
# Masking shorter secrets would make every line unreadable.
_MIN_SECRET = 4

_WORDS = (
    r"access_token|refresh_token|id_token|client_secret|api[_-]?key"
    r"|password|passwd|secret|authorization|cookie"
)
_SECRET_KEY = re.compile(rf"(?:^|[_-])(?:{_WORDS}|token|signature)$", re.IGNORECASE | re.ASCII)
_JWT = re.compile(r"eyJ[\w-]{6,}(?:\.[\w-]*)*", re.ASCII)  # or a piece of one
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
# In a text from a server a lost word does no harm, so whatever may be a secret goes.
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
    ),  # any long code, no UUID
)

# Every shape needs one of these, in lower case. Looking for them first makes a harmless line ten
# times cheaper than trying each pattern on each of its texts.
_MARKS = (
    *("eyj", "authorization", "bearer", "signature", "token", "secret", "password", "passwd"),
    *("api_key", "api-key", "apikey", "cookie", "://"),
)

_PLAIN = frozenset({str, int, float, bool, type(None)})


def sanitize(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return *text* from a server in at most ``QUOTE_CHARS`` characters of one printable line.

    Args:
        secrets: Texts that are removed whatever they look like.
    """
    clean = text[:_READ_CHARS]
    for secret in secrets:
        if secret:
            clean = clean.replace(secret, MASK)
    clean = _masked(_masked(clean, _SHAPES), _SERVER_SHAPES)
    clean = " ".join("".join(char if char.isprintable() else " " for char in clean).split())
    return clean if len(clean) <= QUOTE_CHARS else clean[: QUOTE_CHARS - 1] + "…"


def _masked(text: str, shapes: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for shape, replacement in shapes:
        text = shape.sub(replacement, text)
    return text


class Redactor:
    """Masks secrets in text and in nested values."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: str) -> None:
        """Mask *secret* from now on. Tokens are told by their shape and need no registering."""
        if len(secret) < _MIN_SECRET or _JWT.fullmatch(secret) or secret in self._known:
            return
        self._known |= {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        """*text* with each secret in it masked."""
        if self._is_harmless(text):
            return text
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return _masked(text, _SHAPES)

    def _is_harmless(self, text: str) -> bool:
        """No secret is in *text*; what is left may or may not hold one."""
        if any(secret in text for secret in self._known):
            return False
        lowered = text.lower()
        return all(mark not in lowered for mark in _MARKS)

    def value(self, value: object) -> Any:
        """*value* with each secret in it masked; what is not plain data becomes text."""
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.text(bytes(value).decode("utf-8", "backslashreplace"))
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._under(str(key), each) for key, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.value(each) for each in value]
        return self.text(str(value))

    def _under(self, key: str, value: object) -> Any:
        if isinstance(value, (str, bytes)) and _SECRET_KEY.search(key):
            return MASK
        return self.value(value)

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        """As a structlog processor; it stands right before the renderer."""
        if _is_flat(event) and self._is_harmless("\0".join(_texts_of(event))):
            return event  # so is nearly every line, and one look is enough for it
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
    """*text* without secrets, for what is shown outside the logs."""
    return redactor.text(text)
