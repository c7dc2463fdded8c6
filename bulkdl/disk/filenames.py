"""
Convert names that a server chose to file names that are safe on every file system.

The name of a quicklook is chosen by UP42 and is not trusted. A name that every file system accepts is not
changed. Any other name is reduced to its safe characters and gets a short hash of the original. Different
names therefore get different files, and a later run finds the same name again. The hash follows a ``~``,
which an unchanged name cannot contain. A server therefore cannot send a name that looks hashed.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from pathvalidate import is_valid_filename, sanitize_filename

MAX_NAME_BYTES = 180
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ ()+,=@-]*")


def safe_filenames(names: Iterable[str]) -> dict[str, str]:
    """
    Return a distinct safe file name for each of the *names* in one folder.

    Names that are equal on a file system that ignores case or Unicode normalisation all get their hash.
    The order of *names* has no effect.
    """
    safe_names = {name: _make_safe(name) for name in names}
    counts = Counter(_fold(safe) for safe in safe_names.values())
    return {
        name: safe if safe == name and counts[_fold(safe)] == 1 else add_hash(safe, name)
        for name, safe in safe_names.items()
    }


def make_safe_name(name: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """
    Return *name* as one safe part of a path, at most *max_bytes* long and one byte for a reserved name.

    Different names can have the same result, so that something else in the path must be unique.
    """
    safe = _shorten(_make_safe(name), max_bytes=max_bytes)
    return safe if is_valid_filename(safe, platform="universal") else _sanitise(safe)


@lru_cache(maxsize=1_024)  # the items of a provider have the same few names
def _make_safe(name: str) -> str:
    """Return *name* if it is safe on every file system, otherwise its safe characters."""
    if (
        _SAFE_NAME.fullmatch(name)
        and len(name) <= MAX_NAME_BYTES
        and is_valid_filename(name, platform="universal")
    ):
        return name
    text = unicodedata.normalize("NFC", name).encode("utf-8", "replace").decode("utf-8")
    text = re.sub(r"[^\w.()+,=@-]", "_", text).strip("._ ").lstrip("._- ")
    text = _sanitise(_shorten(text)) or "unnamed"
    return text if _is_encodable(text) else _shorten(_percent_encode(text))


def _sanitise(text: str) -> str:
    """Replace characters that a file system may reject. The length is counted in UTF-8 in any locale."""
    return str(sanitize_filename(text, platform="universal", replacement_text="_", fs_encoding="utf-8"))


def _is_encodable(text: str) -> bool:
    """Return whether the file system's encoding, which can be ASCII, can represent *text*."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _percent_encode(text: str) -> str:
    return "".join(
        char if char.isascii() else "".join(f"%{byte:02X}" for byte in char.encode()) for char in text
    )


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def add_hash(safe: str, original: str) -> str:
    """Return *safe* with a hash of *original* before its suffix."""
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return _shorten(safe, f"~{digest}")


def _shorten(name: str, mark: str = "", max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return *name* in at most *max_bytes* bytes, with its suffix, and with *mark* before the suffix."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix.encode()) > 10:
        stem, dot, suffix = name, "", ""
    ending = f"{mark}{dot}{suffix}"
    max_stem_bytes = max_bytes - len(ending.encode())
    return (stem.encode()[:max_stem_bytes].decode("utf-8", "ignore").strip("._ ") or "unnamed") + ending
