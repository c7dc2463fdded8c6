"""The fields of the STAC extensions. Their schemas are on a server, so that the patterns are repeated."""

from __future__ import annotations

import base64
import hashlib
import re

from bulkdl.processors.catalog.facts import CatalogContainer, CatalogEntry, CatalogFile, RasterHeader
from bulkdl.processors.catalog.stac_items import item_document, multihash

TRANSFORM = (0.1, 0.0, 13.0, 0.0, -0.1, 53.0)


def item(file: CatalogFile) -> dict:
    entry = CatalogEntry("a", "a", "", "", "", (), "completed", start="2020-01-01T00:00:00Z", files=(file,))
    return item_document(
        CatalogContainer("jobs", "p", "", "j", "", "", "p/j", "2020-01-01T00:00:00Z", "", (entry,)), entry
    )


def test_multihash_has_code_and_length_of_the_algorithm() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert re.fullmatch("1220[0-9a-f]{64}", multihash(f"sha256={digest}"))
    md5 = hashlib.md5(b"x", usedforsecurity=False).digest()
    assert multihash(f"md5={base64.b64encode(md5).decode()}") == f"d50110{md5.hex()}"
    assert multihash("crc32c=AAAAAA==") == ""  # has no multihash
    assert multihash("") == ""


def test_item_projection_fields_have_the_types_of_the_schema() -> None:
    asset = item(
        CatalogFile("data", "data", "a.tif", raster=RasterHeader(4, 3, 2, "uint8", 4326, TRANSFORM))
    )["assets"]["data"]
    assert asset["proj:shape"] == [3, 4]
    assert asset["proj:transform"] == list(TRANSFORM)
    assert re.fullmatch(r"EPSG:\d+", asset["proj:code"])
    assert asset["proj:epsg"] == 4326
    assert asset["bands"] == [{"data_type": "uint8"}] * 2


def test_item_of_an_unknown_reference_system_has_a_null_code() -> None:
    asset = item(CatalogFile("data", "data", "a.tif", raster=RasterHeader(4, 3, 1, "uint8")))["assets"][
        "data"
    ]
    assert asset["proj:epsg"] is None
    assert "proj:code" not in asset


def test_item_names_only_the_extensions_that_it_uses() -> None:
    assert item(CatalogFile("data", "data", "a.txt"))["stac_extensions"] == []
    names = item(CatalogFile("data", "data", "a.txt", size_bytes=3))["stac_extensions"]
    assert names == ["https://stac-extensions.github.io/file/v2.1.0/schema.json"]


def test_item_without_a_date_has_both_ends_of_the_span() -> None:
    properties = item(CatalogFile("data", "data", "a.txt"))["properties"]
    assert properties["datetime"] is None
    assert properties["start_datetime"] == properties["end_datetime"] == "2020-01-01T00:00:00Z"
