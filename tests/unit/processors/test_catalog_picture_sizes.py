"""The sizes of pictures agree with Pillow, and the place of a quicklook is written next to it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from bulkdl.processors.catalog.facts import (
    CatalogContainer,
    CatalogEntry,
    CatalogFile,
    CatalogInfo,
    Footprint,
)
from bulkdl.processors.catalog.georeference import QuicklookWriter
from bulkdl.processors.catalog.picture_sizes import read_picture_size

FOOTPRINT = Footprint(
    ((((13.0, 52.0), (15.0, 52.0), (15.0, 53.0), (13.0, 53.0), (13.0, 52.0)),),), (13, 52, 15, 53)
)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"x" * 60_000}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_read_picture_size_equals_pillow(form: str, options: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "picture"
    Image.new("RGB", (321, 123)).save(path, form, **options)
    assert read_picture_size(path) == (321, 123)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBP", b"text" * 9]
)
def test_read_picture_size_damaged_picture_returns_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(content)
    assert read_picture_size(tmp_path / "picture") is None
    assert read_picture_size(tmp_path / "missing") is None


def write(root: Path, footprint: Footprint | None = FOOTPRINT) -> None:
    file = CatalogFile("thumbnail", "thumbnail", "a.png")
    entry = CatalogEntry("a", "a", "", "", "", (), "completed", footprint=footprint, files=(file,))
    info = CatalogInfo(root, root, root, datetime.now(UTC), "1")
    writer = QuicklookWriter(info)
    writer.add(CatalogContainer("jobs", "p", "", "j", "", "", "p/j", "", "", (entry,)))
    writer.finish()
    writer.close()


def test_quicklook_writer_places_the_picture_on_the_bounds(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    write(tmp_path)
    text = (tmp_path / "a.png.aux.xml").read_text("utf-8")
    assert "<GeoTransform>13.0, 0.01, 0.0, 53.0, 0.0, -0.01</GeoTransform>" in text
    assert "approximate" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.png.aux.xml"]


def test_quicklook_writer_does_not_change_a_foreign_file(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (tmp_path / "a.png.aux.xml").write_text("<PAMDataset/>")
    write(tmp_path)
    assert (tmp_path / "a.png.aux.xml").read_text() == "<PAMDataset/>"


@pytest.mark.parametrize("footprint", [None, Footprint(FOOTPRINT.polygons, (170, 10, -170, 20))])
def test_quicklook_writer_without_a_plain_area_writes_nothing(
    tmp_path: Path, footprint: Footprint | None
) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    write(tmp_path, footprint)
    assert not (tmp_path / "a.png.aux.xml").exists()
