"""
IDs and folders of the STAC catalogue, which are safe as file names on every file system.

Names come from a server. An ID is unique by construction in its container. The functions are pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from bulkdl.disk.filenames import add_hash, safe_filenames

_MAX_SLUG_CHARS = 80
_PREFIX_CHARS = 8
_UNSAFE = re.compile(r"[^a-zA-Z0-9._-]+")
_RESERVED = frozenset({"catalog", "collection"})
_RESERVED_FOLDERS = frozenset({"page"})  # the other folder of the catalogue


@lru_cache(maxsize=256)  # the entries of a task begin with its ID
def slug(text: str) -> str:
    """Return the safe characters of *text*; empty if there are none."""
    plain = text if text.isascii() else unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _UNSAFE.sub("-", plain)[:_MAX_SLUG_CHARS].strip("-._ ")


class ItemIds:
    """The IDs of one container. They differ without regard to case."""

    def __init__(self) -> None:
        self._used: set[str] = set(_RESERVED)

    def add(self, owner: str, names: Iterable[str]) -> str:
        """
        Return a new ID.

        Args:
            owner: The ID of the task, the item or the container.
            names: Possible names; the first one with safe characters is used.
        """
        name = next(filter(None, map(slug, names)), "output")
        prefix = slug(owner)[:_PREFIX_CHARS].strip("-._ ") or "item"
        base = candidate = f"{prefix}-{name}"
        number = 1
        while candidate.lower() in self._used:
            number += 1
            candidate = f"{base}-{number}"
        self._used.add(candidate.lower())
        return candidate


def container_folder(scope: str, container_id: str) -> str:
    """Return the folder of a container below the catalogue: ``{scope}/{container}``."""
    return f"{_folder_name(scope)}/{_folder_name(container_id)}"


def _folder_name(name: str) -> str:
    """Return *name* if no other name has this folder on any file system; otherwise append a hash."""
    safe = safe_filenames([name])[name]
    is_unique = name == safe == name.lower() and "." not in name and name not in _RESERVED_FOLDERS
    return safe if is_unique or safe != name else add_hash(safe, name)
