"""
What a name becomes: pure functions from the names that servers chose to names that are safe on disk.

A quicklook's name is UP42's free choice and is distrusted. A name that every file system takes as it
is stays as it is; any other gets its harmless part and a short hash of the original, so that two
different names never meet in one file and the same name is found again on a rerun. The hash stands
behind a ``~``, which no name that stays as it is has: nobody can send a name that looks hashed.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

from pathvalidate import is_valid_filename, sanitize_filename

MAX_NAME_BYTES = 180
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ ()+,=@-]*")


def safe_filenames(names: Iterable[str]) -> dict[str, str]:
    """
    Give each of the *names* of one folder a file name of its own.

    Names that would meet on a file system that ignores case or Unicode form all get their hash, in
    whatever order they are listed.
    """
    plain = {name: _plain(name) for name in names}
    twins = Counter(_folded(safe) for safe in plain.values())
    return {
        name: safe if safe == name and twins[_folded(safe)] == 1 else _with_hash(safe, name)
        for name, safe in plain.items()
    }


def _plain(name: str) -> str:
    """*name* itself when it is harmless everywhere, else what is harmless of it."""
    if (
        _PLAIN.fullmatch(name)
        and len(name) <= MAX_NAME_BYTES
        and is_valid_filename(name, platform="universal")
    ):
        return name
    text = unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode("utf-8")
    text = re.sub(r"[^\w.()+,=@-]", "_", text).strip("._ ").lstrip("._- ")
    text = _sanitise(_cut(text)) or "unnamed"
    return text if _is_encodable(text) else _cut(_percent_escaped(text))


def _sanitise(text: str) -> str:
    """Replace what a file system may reject; the length is counted in UTF-8, whatever the locale."""
    return str(sanitize_filename(text, platform="universal", replacement_text="_", fs_encoding="utf-8"))


def _is_encodable(text: str) -> bool:
    """Return whether the file system's encoding, which can be ASCII, has all letters of *text*."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _percent_escaped(text: str) -> str:
    return "".join(
        letter if letter.isascii() else "".join(f"%{byte:02X}" for byte in letter.encode()) for letter in text
    )


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _with_hash(safe: str, original: str) -> str:
    mark = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return _cut(safe, f"~{mark}")


def _cut(name: str, mark: str = "") -> str:
    """*name* within MAX_NAME_BYTES, its suffix kept, with *mark* before that."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 10:
        stem, dot, suffix = name, "", ""
    end = f"{mark}{dot}{suffix}"
    room = MAX_NAME_BYTES - len(end.encode())
    return (stem.encode()[:room].decode("utf-8", "ignore").strip("._ ") or "unnamed") + end
