"""Pages of a catalogue with known content, for tests in browsers."""

import base64
import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkdl.processors.catalog.facts import (
    BBox,
    CatalogContainer,
    CatalogEntry,
    CatalogFile,
    CatalogOutput,
    Footprint,
    RasterHeader,
)

PROJECT, JOB, TASK = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "123")
HOSTILE_IMAGE = '"><img src=x onerror="document.documentElement.dataset.pwned=\'img\'">'
HOSTILE_SCRIPT = "a</script><script>document.documentElement.dataset.pwned='script'</script>.tif"
HOSTILE_URL = "javascript:document.documentElement.dataset.pwned='url'"
PICTURE_COLOUR = (255, 0, 255)
_FORMATS = {"i32": "i", "u16": "H", "u8": "B"}


@dataclass(frozen=True, slots=True)
class WrittenPage:
    """A page on disk."""

    index: Path
    containers: tuple[CatalogContainer, ...]

    @property
    def url(self) -> str:
        return self.index.as_uri()

    @property
    def entries(self) -> list[CatalogEntry]:
        return [entry for container in self.containers for entry in container.entries]


def create_container(*entries: CatalogEntry, name: str = "flood map", **values: Any) -> CatalogContainer:
    fields = {
        "source": "jobs",
        "scope_id": PROJECT,
        "scope_name": "river project",
        "id": JOB,
        "status": "SUCCEEDED",
        "folder": f"{PROJECT}/{JOB}",
        "created_at": "2020-05-01T10:00:00Z",
        "finished_at": "2020-05-01T10:09:00Z",
    }
    return CatalogContainer(**{**fields, "name": name, "entries": entries, **values})


def create_entry(title: str, **values: Any) -> CatalogEntry:
    fields: dict[str, Any] = {
        "id": "33333333-scene",
        "parent_id": TASK,
        "parent_name": "sobloo-s2-l1c-fullscene:1",
        "block": "sobloo-s2-l1c-fullscene",
        "outputs": (CatalogOutput("archive", "", f"{PROJECT}/{JOB}/{TASK}/task_output.tar.gz"),),
        "state": "completed",
        "reason": "downloaded",
        "datetime": "2020-04-28T09:30:00Z",
        "datetime_source": "datetime",
    }
    return CatalogEntry(**{**fields, "title": title, **values})


def create_failed_entry(title: str, **values: Any) -> CatalogEntry:
    fields = {
        "state": "failed",
        "reason": "checksum_mismatch",
        "detail": "expected crc32c=AAAAAA==, actual crc32c=BBBBBB==",
        "hint": "check the network and the proxy, then run again",
    }
    return create_entry(title, **{**fields, **values})


def create_box(west: float, south: float, east: float, north: float) -> Footprint:
    """Return a rectangle. With *west* larger than *east*, it crosses the antimeridian."""
    bbox: BBox = (west, south, east, north)
    parts = [(west, 180.0), (-180.0, east)] if west > east else [(west, east)]
    rings = tuple(((w, south), (e, south), (e, north), (w, north), (w, south)) for w, e in parts)
    return Footprint(tuple((ring,) for ring in rings), bbox)


def create_files(folder: str, name: str) -> tuple[CatalogFile, ...]:
    raster = RasterHeader(100, 80, 4, "uint16", 32633, (10.0, 0.0, 5e5, 0.0, -10.0, 5.8e6))
    return (
        CatalogFile("data", "data", f"{folder}/output/{name}.tif", "image/tiff", 32_000, raster=raster),
        CatalogFile("thumbnail", "thumbnail", f"{folder}/quicklooks/{name}.png", "image/png", 80),
    )


def write_picture(path: Path, colour: tuple[int, int, int] = PICTURE_COLOUR) -> None:
    """Write a PNG image of 8 by 8 pixels in one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = b"".join(b"\0" + bytes(colour) * 8 for _ in range(8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(pixels))]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def create_hostile_container() -> CatalogContainer:
    """Return a container in which each text that a server chooses is an attack."""
    properties = {HOSTILE_IMAGE: HOSTILE_SCRIPT, "url": HOSTILE_URL, "nested": {"</script>": [HOSTILE_IMAGE]}}
    files = (
        CatalogFile("data", "data", HOSTILE_URL, HOSTILE_IMAGE, 1, title=HOSTILE_IMAGE),
        CatalogFile("data-2", "data", f"//attacker.invalid/{HOSTILE_SCRIPT}", member=HOSTILE_IMAGE),
        CatalogFile("thumbnail", "thumbnail", f"{HOSTILE_IMAGE}/x.png"),
    )
    entry = create_entry(
        HOSTILE_SCRIPT,
        id=HOSTILE_IMAGE,
        parent_name=HOSTILE_IMAGE,
        block=HOSTILE_IMAGE,
        outputs=(CatalogOutput(HOSTILE_IMAGE, HOSTILE_SCRIPT, HOSTILE_URL),),
        feature_id=HOSTILE_SCRIPT,
        datetime=None,
        start=HOSTILE_IMAGE,
        end=HOSTILE_SCRIPT,
        datetime_source=HOSTILE_IMAGE,
        files=files,
        properties=properties,
        provider_properties=properties,
        notes=(HOSTILE_IMAGE, HOSTILE_SCRIPT),
        footprint=create_box(10, 50, 11, 51),
    )
    failed = create_failed_entry(
        HOSTILE_IMAGE, reason=HOSTILE_IMAGE, detail=HOSTILE_SCRIPT, hint=HOSTILE_IMAGE, footprint=None
    )
    return create_container(
        entry,
        failed,
        name=HOSTILE_IMAGE,
        scope_name=HOSTILE_SCRIPT,
        id=HOSTILE_URL,
        status=HOSTILE_IMAGE,
        created_at=HOSTILE_IMAGE,
        folder="../../../..",
    )


def read_element(page: str, name: str) -> str:
    """Return the data element *name* of the text of a page."""
    found = re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found
    return found.group(1)


def read_page(index: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the meta data and the columns as the page reads them."""
    page = index.read_text()
    meta = json.loads(read_element(page, "meta"))
    raw = zlib.decompress(base64.b64decode(read_element(page, "columns")))
    columns: dict[str, Any] = {}
    start = 0
    for name, kind, length in meta["sections"]:
        content = raw[start : start + length]
        start += length + -length % 4
        if kind == "text":
            columns[name] = content.decode()
        else:
            size = struct.calcsize(_FORMATS[kind])
            columns[name] = struct.unpack(f"<{length // size}{_FORMATS[kind]}", content)
    return meta, columns
