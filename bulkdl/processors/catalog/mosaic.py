"""
Write an index of rasters for each kind of raster, which GDAL 3.9 and later opens as one raster (GTI).

A mosaic whose tiles differ in bands, type or colours gives wrong pixels without an error, and tiles in
another reference system are resampled. Therefore all rasters of an index agree in these properties.
"""

from __future__ import annotations

from pathlib import Path

from bulkdl.log import get_logger
from bulkdl.processors.catalog.facts import CatalogContainer, CatalogInfo, RasterHeader, Ring
from bulkdl.processors.catalog.geopackage_file import WGS84, GeoPackage, Layer, encode_shape, format_time

log = get_logger(__name__)

MAX_MOSAICS = 32
_TO_OUTPUT = "../"
_COLUMNS = (
    *(("location", "TEXT"), ("id", "TEXT"), ("project", "TEXT"), ("job", "TEXT"), ("task", "TEXT")),
    *(("block", "TEXT"), ("datetime", "DATETIME")),
)
_COLOURS = {0: "white-is-zero", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr", 8: "cielab"}
_CACHE_KIB = 256

Kind = tuple[int, str, int | None, int]


class MosaicWriter:
    """Writes ``mosaic-….gti.gpkg``."""

    def __init__(self, info: CatalogInfo) -> None:
        self._info = info
        self._files: dict[Kind, tuple[GeoPackage, Layer]] = {}
        self._left_out = 0

    def add(self, container: CatalogContainer) -> None:
        for entry in container.entries:
            for file in entry.files:
                raster = file.raster
                # A GDAL path such as /vsicurl/ can only be absolute; this one is below the output directory.
                if raster is None or raster.epsg is None or raster.transform is None:
                    self._left_out += raster is not None
                    continue
                layer = self._layer((raster.bands, raster.dtype, raster.photometric, raster.epsg))
                if layer is not None:
                    layer.add(
                        encode_shape([[_outline(raster)]], raster.epsg),
                        (
                            _TO_OUTPUT + file.href,
                            entry.id,
                            container.scope_id,
                            container.id,
                            entry.parent_name or entry.parent_id,
                            entry.block,
                            format_time(entry.datetime or entry.start),
                        ),
                    )

    def _layer(self, kind: Kind) -> Layer | None:
        """Return the layer for rasters of *kind*; None if there are too many kinds."""
        if kind not in self._files:
            if len(self._files) == MAX_MOSAICS:
                self._left_out += 1
                return None
            path = self._info.folder / f"{mosaic_name(kind)}.gti.gpkg"
            self._files[kind] = self._create(path, kind[3])
        return self._files[kind][1]

    def _create(self, path: Path, epsg: int) -> tuple[GeoPackage, Layer]:
        file = GeoPackage(path, self._info.written_at, cache_kib=_CACHE_KIB)
        if epsg != WGS84:
            file.add_srs(epsg)
        return file, file.add_layer("tiles", _COLUMNS, srs_id=epsg)

    def finish(self) -> None:
        for file, _ in self._files.values():
            file.finish()
        if self._left_out:
            log.info("catalog.rasters_without_mosaic", rasters=self._left_out, max_mosaics=MAX_MOSAICS)

    def close(self) -> None:
        for file, _ in self._files.values():
            file.close()


def mosaic_name(kind: Kind) -> str:
    """Return the name of the mosaic for rasters of *kind*, such as ``mosaic-3xuint8-rgb-epsg4326``."""
    bands, dtype, photometric, epsg = kind
    colours = _COLOURS.get(photometric if photometric is not None else 1, "")
    parts = ["mosaic", f"{bands}x{dtype}", colours, f"epsg{epsg}"]
    return "-".join(part for part in parts if part)


def _outline(raster: RasterHeader) -> Ring:
    """Return the outline of the raster in its own reference system."""
    assert raster.transform is not None  # noqa: S101 - checked by the caller
    a, b, c, d, e, f = raster.transform
    width, height = raster.width, raster.height
    corners = ((0, 0), (width, 0), (width, height), (0, height), (0, 0))
    return tuple((a * column + b * row + c, d * column + e * row + f) for column, row in corners)
