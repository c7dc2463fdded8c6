"""
Read the features of a ``data.json``.

The file comes from a processing block and is not trusted. It is read as a stream if it is large, and only a
bounded number of its features is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import ijson

from bulkdl.processors.catalog.output_tree import clean, parse_json

MAX_FEATURES = 10_000
_IN_MEMORY_BYTES = 4 << 20
_MAX_STREAM_BYTES = 16 << 20
_MAX_PROPERTIES_CHARS = 64 << 10
_MAX_ID_CHARS = 200
_PATH_NAMES = ("up42.data_path", "up42.data.scene.netcdf", "up42.data.aoiclipped")
_ID_NAMES = ("id", "uid", "scene_id", "title", "parentIdentifier", "sourceIdentifier")


@dataclass(frozen=True, slots=True)
class Feature:
    """
    A feature of a FeatureCollection.

    Attributes:
        id: The ID, or a property that serves as one; empty if there is none.
        data_path: The path of its file or folder in the archive, as the block wrote it (untrusted).
        geometry, bbox: As in the file.
    """

    id: str
    data_path: str
    geometry: Any
    bbox: Any
    properties: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def read_features(path: Path, notes: list[str]) -> list[Feature]:
    """Return the features of the GeoJSON file *path*; if it is not valid, none and a note in *notes*."""
    try:
        size = path.stat().st_size
        entries, is_complete = _read_all(path) if size <= _IN_MEMORY_BYTES else _read_stream(path)
    except FileNotFoundError:
        notes.append(f"{path.name} is missing.")
        return []
    except (OSError, ValueError, RecursionError, ijson.JSONError):
        notes.append(f"{path.name} is not a valid FeatureCollection.")
        return []
    if not is_complete:
        notes.append(f"Only the first {len(entries)} features of {path.name} are listed.")
    is_large = size > _MAX_PROPERTIES_CHARS
    return [_read_feature(entry, check_size=is_large) for entry in entries if isinstance(entry, dict)]


def _read_all(path: Path) -> tuple[list[Any], bool]:
    """Return the features, and whether these are all."""
    document = parse_json(path.read_bytes())
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list):
        raise ValueError("expected a FeatureCollection")  # noqa: TRY004 - one type for the caller
    return features[:MAX_FEATURES], len(features) <= MAX_FEATURES


def _read_stream(path: Path) -> tuple[list[Any], bool]:
    """Return the features at the start of a large file, so that the memory is bounded."""
    features: list[Any] = []
    with path.open("rb") as stream:
        for entry in ijson.items(stream, "features.item", use_float=True):
            if len(features) == MAX_FEATURES or stream.tell() > _MAX_STREAM_BYTES:
                return features, False
            features.append(clean(entry))
    return features, True


def _read_feature(entry: Mapping[str, Any], *, check_size: bool) -> Feature:
    properties = entry.get("properties")
    notes: list[str] = []
    if not isinstance(properties, dict):
        properties = {}
    path = next((value for name in _PATH_NAMES if isinstance(value := properties.get(name), str)), "")
    identity = next(filter(None, (_as_id(value) for value in _ids(entry, properties))), "")
    if check_size and len(json.dumps(properties)) > _MAX_PROPERTIES_CHARS:
        notes.append("The properties of the provider are too long and are not listed.")
        properties = {
            key: value
            for key, value in properties.items()
            if not isinstance(value, (dict, list)) and len(str(value)) < 256
        }
        properties = dict(islice(properties.items(), 100))
    return Feature(identity, path, entry.get("geometry"), entry.get("bbox"), properties, tuple(notes))


def _ids(entry: Mapping[str, Any], properties: Mapping[str, Any]) -> list[Any]:
    identification = properties.get("identification")
    nested = identification.get("externalId") if isinstance(identification, dict) else None
    return [entry.get("id"), *(properties.get(name) for name in _ID_NAMES), nested]


def _as_id(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**30 else ""
    return value.strip()[:_MAX_ID_CHARS] if isinstance(value, str) else ""
