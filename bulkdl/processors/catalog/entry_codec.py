"""Convert entries to JSON values and back, for the cache of unchanged containers."""

from __future__ import annotations

from typing import Any

from bulkdl.processors.catalog.facts import (
    CatalogEntry,
    CatalogFile,
    CatalogOutput,
    Footprint,
    RasterHeader,
)


def encode_entry(entry: CatalogEntry) -> list[Any]:
    """Return *entry* as a list of JSON values."""
    footprint = entry.footprint
    return [
        *(entry.id, entry.title, entry.parent_id, entry.parent_name, entry.block),
        [(output.kind, output.name, output.key) for output in entry.outputs],
        *(entry.state, entry.reason, entry.detail, entry.hint, entry.feature_id),
        (footprint.polygons, footprint.bbox) if footprint is not None else None,
        *(entry.datetime, entry.start, entry.end, entry.datetime_source),
        [_encode_file(file) for file in entry.files],
        *(entry.properties, entry.provider_properties, entry.notes),
    ]


def _encode_file(file: CatalogFile) -> list[Any]:
    raster = file.raster
    return [
        *(file.name, file.role, file.href, file.media_type, file.size_bytes, file.checksum, file.member),
        file.title,
        [getattr(raster, name) for name in RasterHeader.__slots__] if raster is not None else None,
    ]


def decode_entry(values: list[Any]) -> CatalogEntry:
    """Return the entry that ``encode_entry`` converted."""
    identity, outputs, state, footprint, dates, rest = (
        values[:5],
        values[5],
        values[6:11],
        values[11],
        values[12:16],
        values[16:],
    )
    files, properties, provider_properties, notes = rest
    arguments: list[Any] = [
        *identity,
        tuple(CatalogOutput(*output) for output in outputs),
        *state,
        _decode_footprint(footprint) if footprint is not None else None,
        *dates,
        tuple(_decode_file(file) for file in files),
        properties,
        provider_properties,
        tuple(notes),
    ]
    return CatalogEntry(*arguments)


def _decode_footprint(values: list[Any]) -> Footprint:
    polygons, bbox = values
    return Footprint(
        tuple(tuple(tuple((lon, lat) for lon, lat in ring) for ring in polygon) for polygon in polygons),
        tuple(bbox),
    )


def _decode_file(values: list[Any]) -> CatalogFile:
    fields = values[:-1]
    fields.append(_decode_raster(values[-1]) if values[-1] is not None else None)
    return CatalogFile(*fields)


def _decode_raster(values: list[Any]) -> RasterHeader:
    width, height, bands, dtype, epsg, transform, photometric = values
    return RasterHeader(
        width, height, bands, dtype, epsg, tuple(transform) if transform is not None else None, photometric
    )
