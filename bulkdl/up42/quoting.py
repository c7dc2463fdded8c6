"""
Another's words, made fit for our messages: one line, short, and without what must stay secret.

Whatever looks like a token, a key or a signature goes, known or not: what is lost is at worst a
word of a message, what is kept could end in a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

QUOTE_CHARS = 200
_READ_CHARS = 4096  # no more than this of a text is looked at
_GONE = "[removed]"

_SECRET_SHAPES = (
    re.compile(r"eyJ[\w-]+(?:\.[\w-]*)*", re.ASCII),  # a JWT or a piece of one
    re.compile(r"\b(?:bearer|basic)\s+[\w.~+/=%-]{6,}", re.ASCII | re.IGNORECASE),
    re.compile(
        r"[\w.-]*(?:signature|token|password|passwd|secret|api_?key|credential|googleaccessid|authorization)"
        r"[\"']?\s*[=:]\s*[\"']?[^\s\"'&,;}]+",
        re.ASCII | re.IGNORECASE,
    ),
    re.compile(r"\b[A-Za-z0-9]{8}\.[A-Za-z0-9]{30,}"),  # a project's API key
    re.compile(r"(?<=://)[^\s/@]+@"),  # user and password in a URL
    re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*"),  # the query of a URL
    re.compile(r"(?![0-9a-f]{8}(?:-[0-9a-f]{4}){3}-)[A-Za-z0-9+/=_%-]{40,}"),  # any long code, no UUID
)


def quoted(text: str, secrets: Iterable[str] = ()) -> str:
    """
    Return *text* in at most ``QUOTE_CHARS`` characters of one line.

    Args:
        secrets: Texts that are removed whatever they look like.
    """
    clean = text[:_READ_CHARS]
    for secret in secrets:
        if secret:
            clean = clean.replace(secret, _GONE)
    for shape in _SECRET_SHAPES:
        clean = shape.sub(_GONE, clean)
    clean = " ".join("".join(char if char.isprintable() else " " for char in clean).split())
    return clean if len(clean) <= QUOTE_CHARS else clean[: QUOTE_CHARS - 1] + "…"
