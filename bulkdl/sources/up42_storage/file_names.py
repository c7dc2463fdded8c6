"""
Choose the file names of the assets in one folder. The functions are pure.

Names come from the server. Every name is made safe, and equal names in one folder get a hash of what they
name, so that two assets never have the same path on any file system.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping

from bulkdl.disk.filenames import add_hash, safe_filenames

_SUFFIXES = {
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/gzip": ".tgz",
    "application/x-gzip": ".tgz",
    "application/x-tar": ".tar",
    "image/tiff": ".tiff",
    "image/jp2": ".jp2",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "application/json": ".json",
    "application/geo+json": ".geojson",
    "application/xml": ".xml",
    "text/xml": ".xml",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
}
_MAX_SUFFIX_CHARS = 10


def add_suffix(name: str, media_type: str) -> str:
    """Return *name* with the suffix of *media_type* if it has no suffix of its own."""
    stem, dot, suffix = name.rpartition(".")
    if dot and stem and 0 < len(suffix) <= _MAX_SUFFIX_CHARS and suffix.isalnum() and not suffix.isdigit():
        return name
    return name + _SUFFIXES.get(media_type.partition(";")[0].strip().lower(), "")


def choose_filenames(wanted: Mapping[str, str], reserved: Collection[str] = ()) -> dict[str, str]:
    """
    Return a distinct safe file name for each entry of one folder.

    Args:
        wanted: The name from the server, by an identity that is unique in the folder.
        reserved: Names of other files in the folder, in lower case.
    """
    safe_names = safe_filenames(wanted.values())
    counts = Counter(_fold(safe_names[name]) for name in wanted.values())
    return {
        identity: safe_names[name]
        if counts[_fold(safe_names[name])] == 1 and _fold(safe_names[name]) not in reserved
        else add_hash(safe_names[name], f"{name}\0{identity}")
        for identity, name in wanted.items()
    }


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
