"""
Escape untrusted text for display, so that a text from a server cannot add lines or control characters.

Terminals execute control characters, and viewers reorder text after bidirectional controls. Every text
for a terminal, a console log or a CSV cell passes through ``printable``. JSON passes through ``json_text``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

# Cc and Cs are executed or cannot be encoded, Cf and Zl/Zp reorder or break lines, Co and Cn have no glyph.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    r"""Return *text* with each invisible character as an escape such as ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return _SUSPECT.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return *text* of several lines like ``printable``, with its line ends and tabs unchanged."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def json_text(
    document: object,
    *,
    encoding: str = "utf-8",
    indent: int | None = None,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """
    Return *document* as JSON without raw control characters.

    The escapes are those of JSON, so a parser returns the exact values. *encoding* is the encoding of the
    stream: if it is not UTF-8, all characters outside ASCII are escaped. *default* is passed to
    ``json.dumps``.
    """
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    text = json.dumps(document, ensure_ascii=not is_utf8, indent=indent, default=default)
    if text.isascii() and "\x7f" not in text:
        return text  # json.dumps already escapes the control characters of ASCII
    return _SUSPECT.sub(_escape_in_json, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if unicodedata.category(char) not in _ESCAPED:
        return char
    return char.encode("unicode_escape").decode("ascii")


def _escape_in_json(match: re.Match[str]) -> str:
    char = match[0]
    if char == "\n" or unicodedata.category(char) not in _ESCAPED:
        return char  # a line end between two values; inside a string it is already escaped
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"


def storable(name: str) -> str:
    """Return *name* as valid UTF-8: a byte of a file name that cannot be decoded becomes ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
