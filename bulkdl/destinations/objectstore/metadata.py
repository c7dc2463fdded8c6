"""
The metadata of objects: content type, our checksum, and the identity of the downloaded object.

The keys contain only lower-case letters. Azure rejects hyphens, and values must be ASCII.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from bulkdl.models import CommittedFile, Digest

DIGEST_KEY = "bulkdldigest"
SOURCE_KEY = "bulkdlsource"

# S3 limits the metadata of an object to 2 KB.
_MAX_SOURCE_CHARS = 1600
_CONTENT_TYPES = {
    ".geojson": "application/geo+json",
    ".gz": "application/gzip",
    ".html": "text/html; charset=utf-8",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".png": "image/png",
    ".tar": "application/x-tar",
    ".tgz": "application/gzip",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


def build_attributes(file: CommittedFile) -> dict[str, str]:
    """Return content type and metadata of the object for *file*."""
    attributes = {"Content-Type": content_type(file.key), DIGEST_KEY: str(file.digest)}
    source = _encode_source(file)
    return {**attributes, SOURCE_KEY: source} if source else attributes


def content_type(key: str) -> str:
    """Return the media type for the suffix of *key*."""
    dot = key.rfind(".")
    return _CONTENT_TYPES.get(key[dot:].lower() if dot >= 0 else "", "application/octet-stream")


def _encode_source(file: CommittedFile) -> str:
    """Return URL and validators of the downloaded object as Base64 of JSON; empty if they are too long."""
    validator = file.validator
    values = {
        "etag": validator.etag,
        "generation": validator.generation,
        "last_modified": validator.last_modified,
        "source": file.source,
    }
    known = {name: value for name, value in values.items() if value is not None}
    while known:
        text = base64.b64encode(json.dumps(known, separators=(",", ":")).encode()).decode()
        if len(text) <= _MAX_SOURCE_CHARS:
            return text
        known.popitem()  # the URL first
    return ""


def parse_digest(attributes: Mapping[str, Any]) -> Digest | None:
    """Return the checksum in *attributes*; None if the object was not published by bulkdl."""
    algorithm, _, value = str(attributes.get(DIGEST_KEY, "")).partition("=")
    return Digest(algorithm, value) if algorithm in ("crc32c", "md5") and value else None


def normalize_etag(etag: str | None) -> str | None:
    """Return *etag* without quotes: lists of Azure do not contain them."""
    return etag.strip('"') if etag else None
