"""Programs that read the rasters: the mosaics and the pictures with a place."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import rasterio
import rioxarray


def values_near(path: Path, x: float, y: float, resolution: tuple[float, float]) -> set[int]:
    """Return the values within one pixel of the mosaic; empty if the raster does not contain the point."""
    with rasterio.open(path) as raster:
        row, column = raster.index(x, y)
        if not (0 <= row < raster.height and 0 <= column < raster.width):
            return set()
        columns, rows = (int(own / each) + 1 for own, each in zip(resolution, raster.res, strict=True))
        pixels = raster.read(1)[
            max(0, row - rows) : row + rows + 1, max(0, column - columns) : column + columns + 1
        ]
        return {int(value) for value in pixels.flat}


def test_rasterio_opens_each_mosaic_and_reads_a_pixel_of_each_tile(catalog: Path) -> None:
    mosaics = sorted(catalog.glob("mosaic-*.gti.gpkg"))
    assert mosaics
    for path in mosaics:
        tiles = geopandas.read_file(path)
        with rasterio.open(path) as mosaic:
            assert mosaic.driver == "GTI"
            for tile in tiles.itertuples():
                center = tile.geometry.centroid
                # The rasters of a job's tasks cover the same area.
                covering = tiles[tiles.intersects(center)].location
                values = set().union(
                    *(
                        values_near(catalog / location, center.x, center.y, mosaic.res)
                        for location in covering
                    )
                )
                (sample,) = mosaic.sample([(center.x, center.y)])
                assert int(sample[0]) in values


def test_rioxarray_opens_a_mosaic(catalog: Path) -> None:
    path = min(catalog.glob("mosaic-*.gti.gpkg"))
    with rioxarray.open_rasterio(path, chunks={"x": 256, "y": 256}) as array:
        assert array.rio.crs.to_epsg() == 4326
        assert array.dtype == np.uint8


def test_rasterio_places_quicklooks_on_their_footprints(outputs: Path, catalog: Path) -> None:
    table = geopandas.read_file(catalog / "outputs.gpkg", layer="outputs")
    pictures = table[table.thumbnail != ""].dropna(subset="geometry")
    bounds = pictures.geometry.bounds
    # A picture across the antimeridian gets no place: its bounds would be those of the whole earth.
    pictures = pictures[bounds.maxx - bounds.minx < 180]
    assert len(pictures) > 5
    for row in pictures.itertuples():
        with rasterio.open(catalog / row.thumbnail) as picture:
            assert picture.crs.to_epsg() == 4326
            np.testing.assert_allclose(tuple(picture.bounds), row.geometry.bounds, atol=1e-6)
