"""Programs that read the tables: GeoPackage, GeoParquet and GeoJSON."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import duckdb
import geopandas
import pyogrio
import pytest


def test_pyogrio_opens_all_layers(catalog: Path) -> None:
    layers = dict(pyogrio.list_layers(catalog / "outputs.gpkg"))
    assert layers["outputs"] == layers["jobs"] == "MultiPolygon"
    assert layers["failures"] is None
    information = pyogrio.read_info(catalog / "outputs.gpkg", layer="outputs")
    assert information["crs"] == "EPSG:4326"
    assert information["capabilities"]["fast_spatial_filter"]


def test_geopandas_reads_footprints_and_states(catalog: Path) -> None:
    table = geopandas.read_file(catalog / "outputs.gpkg", layer="outputs")
    items = [
        path
        for path in catalog.rglob("*.json")
        if path.name not in ("catalog.json", "collection.json", "bulkdl.json")
    ]
    assert len(table) == len(items)
    assert table.geometry.notna().sum() > 50
    assert set(table.state) >= {"completed"}
    completed = table[(table.state == "completed") & (table.path != "")]
    assert all((catalog / path).is_file() for path in completed.path)
    assert all((catalog / path).is_file() for path in table.item)
    assert all((catalog / path).is_file() for path in table.thumbnail if path)


def test_geopandas_spatial_filter_uses_the_index(catalog: Path) -> None:
    everything = geopandas.read_file(catalog / "outputs.gpkg", layer="outputs")
    box = (0, 0, 180, 90)
    filtered = geopandas.read_file(catalog / "outputs.gpkg", layer="outputs", bbox=box)
    assert 0 < len(filtered) < len(everything)
    assert (
        len(filtered)
        == everything.geometry.notna().sum()
        - (
            ~everything.dropna(subset="geometry").intersects(
                geopandas.GeoSeries.from_wkt(["POLYGON((0 0, 180 0, 180 90, 0 90, 0 0))"])[0]
            )
        ).sum()
    )


def test_debian_ogrinfo_reports_no_error(catalog: Path) -> None:
    tool = shutil.which("ogrinfo")
    if tool is None:
        pytest.skip("ogrinfo (gdal-bin) is not installed")
    result = subprocess.run(
        [tool, "-ro", "-so", str(catalog / "outputs.gpkg"), "outputs"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    assert "Geometry: Multi Polygon" in result.stdout


def test_geopandas_reads_the_parquet_file(catalog: Path) -> None:
    table = geopandas.read_parquet(catalog / "items.parquet")
    gpkg = geopandas.read_file(catalog / "outputs.gpkg", layer="outputs")
    assert len(table) == gpkg.geometry.notna().sum()
    assert table.crs == "OGC:CRS84"
    assert sorted(table["id"]) == sorted(gpkg[gpkg.geometry.notna()]["id"])
    one = table.iloc[0]
    assert (catalog / one["assets"]["data"]["href"]).is_file()
    assert isinstance(json.loads(one["up42:properties"]), dict)
    assert 0 < len(geopandas.read_parquet(catalog / "items.parquet", bbox=(0, 0, 180, 90))) < len(table)


def test_duckdb_queries_the_parquet_file(catalog: Path) -> None:
    items = duckdb.read_parquet(str(catalog / "items.parquet"))  # noqa: F841 - the query names the variable
    query = """
        SELECT count(*), count(assets.data.href), min(bbox.xmin), max(bbox.ymax), min(start_datetime)
        FROM items WHERE "up42:status" = 'completed'
    """
    ((count, hrefs, west, north, start),) = duckdb.sql(query).fetchall()
    assert count >= hrefs > 50
    assert -180 <= west < north <= 90
    assert start.year in (2018, 2019, 2020)


def test_geojson_lines_are_features_that_pyogrio_reads(catalog: Path) -> None:
    lines = (catalog / "outputs.geojsonl").read_text("utf-8").splitlines()
    features = [json.loads(line) for line in lines]
    assert all(feature["type"] == "Feature" for feature in features)
    assert len(geopandas.read_file(catalog / "outputs.geojsonl", engine="pyogrio")) == len(lines)


def test_sha256sum_verifies_all_files(outputs: Path) -> None:
    result = subprocess.run(
        ["sha256sum", "--check", "--quiet", "catalog/SHA256SUMS"],
        check=False,
        cwd=outputs,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (0, "")
