"""The header reader agrees with GDAL, and rejects everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import example, given
from hypothesis import strategies as st
from rasterio import Affine

from bulkdl.processors.catalog.raster_headers import read_raster_header

TRANSFORM = Affine(1 / 40, 0, 13, 0, -1 / 30, 53)
PROFILES: list[dict[str, Any]] = [
    {"dtype": "uint8", "count": 1, "crs": "EPSG:4326"},
    {"dtype": "uint16", "count": 4, "crs": "EPSG:32633"},
    {"dtype": "int16", "count": 1, "crs": "EPSG:3857", "tiled": True, "blockxsize": 16, "blockysize": 16},
    {"dtype": "float32", "count": 2, "crs": "EPSG:32733", "compress": "deflate"},
    {"dtype": "float64", "count": 1, "crs": None},
    {"dtype": "uint8", "count": 3, "crs": "EPSG:4326", "photometric": "RGB"},
    {"dtype": "uint16", "count": 1, "crs": "EPSG:4326", "BIGTIFF": "YES"},
    {"dtype": "uint16", "count": 1, "crs": "EPSG:4326", "ENDIANNESS": "BIG"},
]


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_read_raster_header_equals_rasterio(profile: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=30, transform=TRANSFORM, **profile
    ) as file:
        file.write(np.ones((profile["count"], 30, 40), profile["dtype"]))
    header = read_raster_header(path)
    assert header is not None
    with rasterio.open(path) as file:
        assert (header.width, header.height, header.bands) == (file.width, file.height, file.count)
        assert header.dtype == file.dtypes[0]
        assert header.epsg == (file.crs.to_epsg() if file.crs else None)
        assert header.transform == pytest.approx(tuple(file.transform)[:6])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II",
        b"II*\0",
        b"II*\0\xff\xff\xff\x7f",
        b"MM\0*" + b"\xff" * 100,
        b"\x89PNG" + bytes(100),
        b"II*\0\x08\0\0\0\xff\xff",
    ],
)
def test_read_raster_header_other_content_returns_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert read_raster_header(path) is None
    assert read_raster_header(tmp_path / "missing.tif") is None


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raster") / "a.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=4,
        height=3,
        count=1,
        dtype="uint8",
        crs="EPSG:4326",
        transform=TRANSFORM,
    ) as file:
        file.write(np.ones((1, 3, 4), "uint8"))
    return path


@given(at=st.integers(0, 600), value=st.binary(min_size=1, max_size=8))
@example(at=14, value=b"\x00")  # a tag without values
def test_read_raster_header_damaged_file_never_raises(at: int, value: bytes, sample: Path) -> None:
    content = bytearray(sample.read_bytes())
    content[at : at + len(value)] = value
    damaged = sample.with_name("damaged.tif")
    damaged.write_bytes(content)
    header = read_raster_header(damaged)
    assert header is None or header.width > 0
