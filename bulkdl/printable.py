"""
Untrusted text for people: whatever a server put into a name, one line stays one line.

Terminals execute control characters, and viewers reorder text after bidirectional controls. Every text
for a terminal, a console log or a CSV cell goes through ``printable``; JSON goes through ``json_text``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

# Cc and Cs execute or cannot be encoded, Cf and Zl/Zp reorder or break lines, Co and Cn have no shape.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"})
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def printable(text: str) -> str:
    r"""*text* with every character that is not visible as an escape such as ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return _SUSPECT.sub(_escape, text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines, such as a traceback: its line ends and tabs stay."""
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
    *document* as JSON without any raw control character.

    A parser reads back the exact values, because the escapes are those of JSON. *encoding* is that of
    the stream: unless it is UTF-8, every character outside of ASCII is escaped. *default* is that of
    ``json.dumps``.
    """
    is_utf8 = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    text = json.dumps(document, ensure_ascii=not is_utf8, indent=indent, default=default)
    if text.isascii() and "\x7f" not in text:
        return text  # json.dumps escapes the control characters of ASCII
    return _SUSPECT.sub(_escape_in_json, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if unicodedata.category(char) not in _ESCAPED:
        return char
    return char.encode("unicode_escape").decode("ascii")


def _escape_in_json(match: re.Match[str]) -> str:
    char = match[0]
    if char == "\n" or unicodedata.category(char) not in _ESCAPED:
        return char  # a line end stands between two values; inside of a string it is escaped already
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
