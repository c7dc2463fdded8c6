"""
Write ``PICTURE.aux.xml`` next to quicklooks, from which GDAL and QGIS take their place on the map.

UP42 does not document where a quicklook lies. The official client placed it on the bounds of the scene, so
that the place is approximate. An existing file that bulkdl did not write is not changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bulkdl.os_errors import map_path_errors
from bulkdl.processors.catalog.facts import BBox, CatalogContainer, CatalogFile, CatalogInfo
from bulkdl.processors.catalog.picture_sizes import read_picture_size
from bulkdl.processors.catalog.publishing import GEOREFERENCE_SUFFIX

_MARK = "<!-- written by bulkdl catalog; the place is approximate: the bounds of the scene -->"
_WGS84 = "EPSG:4326"


class QuicklookWriter:
    """Writes the georeference of each quicklook whose entry has a footprint."""

    def __init__(self, info: CatalogInfo) -> None:
        self._output = info.output

    def add(self, container: CatalogContainer) -> None:
        for entry in container.entries:
            footprint = entry.footprint
            if footprint is not None and footprint.bbox[0] < footprint.bbox[2]:
                for picture in _pictures(entry.files):
                    self._write(self._output / picture.href, footprint.bbox)

    def _write(self, picture: Path, bbox: BBox) -> None:
        path = picture.with_name(picture.name + GEOREFERENCE_SUFFIX)
        size = read_picture_size(picture)
        if size is None:
            return
        content = _document(bbox, size)
        with map_path_errors(path):
            try:
                current = path.read_text("utf-8", errors="replace")
            except FileNotFoundError:
                current = ""
            if current == content or (current and _MARK not in current):
                return
            temp_path = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temp_path.write_text(content, "utf-8")
            temp_path.replace(path)

    def finish(self) -> None:
        """Do nothing: each file is complete."""

    def close(self) -> None:
        """Release nothing: no file stays open."""


def _pictures(files: Iterable[CatalogFile]) -> list[CatalogFile]:
    return [file for file in files if file.role == "thumbnail"]


def _document(bbox: BBox, size: tuple[int, int]) -> str:
    west, south, east, north = bbox
    width, height = size
    transform = (west, (east - west) / width, 0.0, north, 0.0, (south - north) / height)
    numbers = ", ".join(repr(float(value)) for value in transform)
    return (
        f"<PAMDataset>\n  {_MARK}\n  <SRS>{_WGS84}</SRS>\n"
        f"  <GeoTransform>{numbers}</GeoTransform>\n</PAMDataset>\n"
    )
