"""Create the bytes of files: valid archives, rasters, pictures and documents, of any size where possible."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from bulkdl.simulator.archives import MAX_ZIP_BYTES, ArchiveFormat, Members, create_archive, overhead_bytes
from bulkdl.simulator.documents import dump
from bulkdl.simulator.geotiff import create_geotiff
from bulkdl.simulator.lazy_bytes import Blob, BlobChain, FillerBytes, LiteralBytes
from bulkdl.simulator.pictures import create_picture
from bulkdl.simulator.v2.item_assets import AssetFile

_WRITTEN_AT = datetime(2024, 1, 1, tzinfo=UTC)
_JP2_HEAD = (
    b"\0\0\0\x0cjP  \r\n\x87\n"  # signature box
    b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 "  # file type box
    b"\0\0\0\x2djp2h\0\0\0\x16ihdr\0\0\0\x40\0\0\0\x40\0\x01\x07\x07\0\0\0\0\0\x0fcolr\x01\0\0\0\0\0\x11"
)


def create_body(file: AssetFile, version: int = 0, longer_by: int = 0) -> Blob:
    """Create the content of *file*. *version* counts the replacements, *longer_by* their additional bytes."""
    key = f"{file.key}/{version}"
    size = file.size_bytes + longer_by
    match file.suffix:
        case "zip" | "tgz":
            return _create_archive(file, size, key)
        case "tif" | "tiff":
            return create_geotiff(file.bounds, size, key.encode())
        case "bigtiff":
            return _with_filler(struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 0), size, key)
        case "jp2":
            # The last box is the codestream; length 0 means until the end of the file.
            return _with_filler(_JP2_HEAD + b"\0\0\0\0jp2c\xff\x4f\xff\x51", size, key)
        case "jpg" | "png":
            picture = create_picture(key, file.suffix)
            size = len(picture) + longer_by
            return LiteralBytes(create_picture(key, file.suffix, size) if longer_by else picture)
        case "bin":
            return _with_filler(b"BULK", size, key)
    return LiteralBytes(_create_text(file.suffix, key) + b" " * longer_by)


def _with_filler(head: bytes, size: int, key: str) -> Blob:
    return BlobChain([LiteralBytes(head), FillerBytes(key.encode(), max(0, size - len(head)))])


def _create_archive(file: AssetFile, size: int, key: str) -> Blob:
    form: ArchiveFormat = "zip" if file.suffix == "zip" and size < MAX_ZIP_BYTES else "tgz"
    notes = LiteralBytes(_create_text("json", key))
    empty: Members = [("output/data.json", notes), ("output/scene.tif", LiteralBytes(b""))]
    spare = max(0, size - notes.size - overhead_bytes(form, empty))
    raster = create_geotiff(file.bounds, spare, key.encode())
    return create_archive(form, [empty[0], ("output/scene.tif", raster)], _WRITTEN_AT)


def _create_text(suffix: str, key: str) -> bytes:
    match suffix:
        case "xml":
            return f"<?xml version='1.0' encoding='UTF-8'?>\n<scene><id>{key}</id></scene>\n".encode()
        case "geojson":
            return dump({"type": "FeatureCollection", "features": [], "name": key})
        case "json":
            return dump({"type": "FeatureCollection", "features": [], "id": key})
        case "pdf":
            return (
                f"%PDF-1.4\n% {key}\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n".encode()
            )
    return f"License agreement for {key}\n".encode()
