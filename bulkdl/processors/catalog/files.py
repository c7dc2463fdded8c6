"""Choose the files of an entry: the data, its thumbnail, its metadata and its archive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from bulkdl.processors.catalog.facts import CatalogFile
from bulkdl.processors.catalog.output_tree import OutputTree, UnpackedFolder
from bulkdl.processors.catalog.raster_headers import read_raster_header
from bulkdl.processors.catalog.records import LedgerOutput

MAX_FOLDER_FILES = 100
_TIFF = "image/tiff; application=geotiff"
MEDIA_TYPES = {
    "tif": _TIFF,
    "tiff": _TIFF,
    "jp2": "image/jp2",
    "j2k": "image/jp2",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "nc": "application/netcdf",
    "h5": "application/x-hdf5",
    "json": "application/json",
    "geojson": "application/geo+json",
    "gpkg": "application/geopackage+sqlite3",
    "xml": "application/xml",
    "txt": "text/plain",
    "csv": "text/csv",
    "pdf": "application/pdf",
    "html": "text/html",
    "zip": "application/zip",
    "gz": "application/gzip",
    "tgz": "application/gzip",
    "tar": "application/x-tar",
    "las": "application/vnd.las",
    "laz": "application/vnd.laszip",
}
_RASTER_SUFFIXES = frozenset({"tif", "tiff"})
# The file of a product that programs open, in the order of preference.
_ENTRY_FILES = (
    re.compile(r"DIM_.*\.xml", re.IGNORECASE),
    re.compile(r"manifest\.safe", re.IGNORECASE),
    re.compile(r"MTD_.*\.xml", re.IGNORECASE),
    *(re.compile(rf".*\.{suffix}", re.IGNORECASE) for suffix in ("tiff?", "jp2", "nc", "geojson")),
)


def suffix_of(name: str) -> str:
    """Return the suffix of *name* in lower case without its dot; empty if there is none."""
    stem, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return suffix.lower() if dot and stem else ""


def stem_of(path: str) -> str:
    """Return the name of a file without its suffix, as ``PurePosixPath.stem``, which is slower."""
    name = path.rpartition("/")[2]
    if name in ("", "."):
        return PurePosixPath(path).stem
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def media_type_of(name: str) -> str:
    """Return the media type of a file name; empty if its suffix is not known."""
    return MEDIA_TYPES.get(suffix_of(name), "")


def output_file(tree: OutputTree, output: LedgerOutput, name: str, role: str, **values: str) -> CatalogFile:
    """Return the file of an output."""
    return CatalogFile(
        name,
        role,
        tree.href(output.key),
        values.get("media_type") or media_type_of(output.key),
        output.size_bytes,
        output.digest,
        member=values.get("member", ""),
        title=values.get("title", ""),
        raster=read_raster_header(tree.locate(output.key))
        if suffix_of(output.key) in _RASTER_SUFFIXES
        else None,
    )


class MemberFiles:
    """The unpacked files of one archive."""

    def __init__(self, tree: OutputTree, unpacked: UnpackedFolder) -> None:
        self._tree = tree
        self._unpacked = unpacked

    def find(self, data_path: str, notes: list[str]) -> list[CatalogFile]:
        """
        Return the files of a feature, the one that programs open first.

        Args:
            data_path: The path of a file or a folder, as the block wrote it (untrusted).
            notes: Receives a sentence if the path is not usable.
        """
        path = normalise_path(data_path)
        if path is None:
            notes.append(f"The path {data_path[:200]!r} is not a path in the archive.")
            return []
        files = self._unpacked.files
        if path in files:
            return [self._file(path, "data", "data")]
        members = [name for name in files if name.startswith(f"{path}/")] if path else []
        if not members:
            notes.append(f"The file {data_path[:200]!r} is not in the archive.")
            return []
        members = self._order(members, notes)
        return [
            self._file(name, "data" if number == 0 else f"data-{number + 1}", "data")
            for number, name in enumerate(members)
        ]

    def remaining(self, notes: list[str]) -> list[CatalogFile]:
        """Return all files except ``data.json``, for an archive without features."""
        members = [name for name in self._unpacked.files if name != "data.json"]
        return [
            self._file(name, "data" if number == 0 else f"data-{number + 1}", "data")
            for number, name in enumerate(self._order(members, notes))
        ]

    def _order(self, members: Sequence[str], notes: list[str]) -> list[str]:
        first = find_entry_file(members)
        ordered = ([first] if first else []) + sorted(name for name in members if name != first)
        if len(ordered) > MAX_FOLDER_FILES:
            notes.append(f"The folder has {len(ordered)} files; the first {MAX_FOLDER_FILES} are listed.")
        return ordered[:MAX_FOLDER_FILES]

    def _file(self, path: str, name: str, role: str) -> CatalogFile:
        member = self._unpacked.files[path]
        key = f"{self._unpacked.key}/{path}"
        is_raster = suffix_of(path) in _RASTER_SUFFIXES
        return CatalogFile(
            name,
            role,
            self._tree.href(key),
            media_type_of(path),
            member.size_bytes,
            f"sha256={member.sha256}",
            raster=read_raster_header(self._tree.locate(key)) if is_raster else None,
        )


def normalise_path(data_path: str) -> str | None:
    """
    Return *data_path* relative to the unpacked folder, as the unpacker names it; None if it leads outside.

    Blocks write paths relative to their output folder. Some write the absolute path of that folder.
    """
    if not data_path or "\\" in data_path or not data_path.isprintable() or len(data_path) > 1024:
        return None
    if data_path.startswith("/"):
        _, marker, rest = data_path.partition("/output/")
        if not marker:
            return None
        data_path = rest
    parts = [part for part in data_path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    return "/".join(parts[1:] if parts[0] == "output" and len(parts) > 1 else parts)


def find_entry_file(members: Iterable[str]) -> str | None:
    """Return the file of a product that programs open; None if there is no known one."""
    names = sorted(members, key=lambda name: (name.count("/"), name))
    for pattern in _ENTRY_FILES:
        found = next((name for name in names if pattern.fullmatch(PurePosixPath(name).name)), None)
        if found is not None:
            return found
    return None
