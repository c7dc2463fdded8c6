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
from bulkdl.processors.catalog.unchanged import KeptContainer

log = get_logger(__name__)

MAX_MOSAICS = 32
_SUFFIX = ".gti.gpkg"
_TO_OUTPUT = "../"
_COLUMNS = (
    *(("location", "TEXT"), ("id", "TEXT"), ("project", "TEXT"), ("job", "TEXT"), ("task", "TEXT")),
    *(("block", "TEXT"), ("datetime", "DATETIME")),
)
_COLOURS = {0: "white-is-zero", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr", 8: "cielab"}
_CACHE_KIB = 256

Kind = tuple[int, str, int | None, int]


class MosaicWriter:
    """
    Writes ``mosaic-….gti.gpkg``.

    Args:
        previous: The folder of the catalogue whose rows are kept; None if there is none.
    """

    def __init__(self, info: CatalogInfo, previous: Path | None = None) -> None:
        self._info = info
        self._is_copy = previous is not None
        self._files: dict[str, tuple[GeoPackage, Layer]] = {}
        for path in sorted(previous.glob(f"*{_SUFFIX}")) if previous is not None else ():
            name = path.name.removesuffix(_SUFFIX)
            self._files[name] = self._open(name, int(name.rpartition("epsg")[2]), path)
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

    def keep(self, kept: KeptContainer) -> bool:
        """Keep the rows of a container in copied files."""
        del kept
        return self._is_copy

    def remove(self, scope_id: str, container_id: str) -> None:
        """Remove the rows of a container from copied files."""
        if self._is_copy:
            for _, layer in self._files.values():
                layer.remove(scope_id, container_id)

    def _layer(self, kind: Kind) -> Layer | None:
        """Return the layer for rasters of *kind*; None if there are too many kinds."""
        name = mosaic_name(kind)
        if name not in self._files:
            if len(self._files) == MAX_MOSAICS:
                self._left_out += 1
                return None
            self._files[name] = self._open(name, kind[3])
        return self._files[name][1]

    def _open(self, name: str, epsg: int, previous: Path | None = None) -> tuple[GeoPackage, Layer]:
        path = self._info.folder / f"{name}{_SUFFIX}"
        file = GeoPackage(path, self._info.written_at, previous=previous, cache_kib=_CACHE_KIB)
        if epsg != WGS84:
            file.add_srs(epsg)
        return file, file.add_layer("tiles", _COLUMNS, srs_id=epsg)

    def finish(self) -> None:
        for name, (file, layer) in self._files.items():
            file.finish()
            if layer.is_empty():  # GDAL cannot open it
                (self._info.folder / f"{name}{_SUFFIX}").unlink()
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
