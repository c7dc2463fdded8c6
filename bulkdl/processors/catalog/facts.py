"""
The values that all writers of a catalogue consume, and the interface of a writer.

A catalogue is written in one pass over the containers of an output directory. Each writer receives one
container at a time, so that memory does not grow with their number. Text that a server chose is untrusted
everywhere in these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from bulkdl.processors.catalog.json_text import encode_readable

Position = tuple[float, float]
"""Longitude and latitude in degrees."""

Ring = tuple[Position, ...]
"""A closed ring: the last position equals the first one."""

BBox = tuple[float, float, float, float]
"""West, south, east, north. West is larger than east if the area crosses the antimeridian."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """
    The area of an entry.

    Attributes:
        polygons: The polygons; of each, the outer ring and its holes. No ring crosses the antimeridian: an
            area that does has one polygon on each side.
    """

    polygons: tuple[tuple[Ring, ...], ...]
    bbox: BBox


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """
    The header of a raster file.

    Attributes:
        dtype: The type of the samples, such as ``uint8`` or ``float32``.
        epsg: The code of the coordinate reference system; None if it is not known.
        transform: The affine transform from column and row to coordinates, in the order of rasterio
            (a, b, c, d, e, f); None if it is not known.
        photometric: The photometric interpretation of the TIFF file.
    """

    width: int
    height: int
    bands: int
    dtype: str
    epsg: int | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    photometric: int | None = None


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """
    One file of an entry. It exists.

    Attributes:
        name: The key of the STAC asset: ``data``, ``data-2``, ``thumbnail``, ``metadata``, ``archive``; for
            deliveries the key that the provider chose. Unique in its entry.
        role: The main role: ``data``, ``thumbnail``, ``overview``, ``metadata``, ``archive``, ``original``.
        href: The path relative to the output directory, with forward slashes, not percent-encoded.
        media_type: The type by content or suffix; empty if it is not known.
        checksum: ``algorithm=value``: ``crc32c`` and ``md5`` in base64, ``sha256`` in hexadecimal; empty if
            there is none.
        member: For an archive that is not unpacked, the path of the entry's file in it.
        title: A name for people; empty if there is none.
        raster: The header, if it is a raster that can be read.
    """

    name: str
    role: str
    href: str
    media_type: str = ""
    size_bytes: int | None = None
    checksum: str = ""
    member: str = ""
    title: str = ""
    raster: RasterHeader | None = None


@dataclass(frozen=True, slots=True)
class CatalogOutput:
    """An output of the ledger that an entry describes; *key* is empty if it was never committed."""

    kind: str
    name: str
    key: str


@dataclass(frozen=True)  # without slots, for the cached property
class CatalogEntry:
    """
    One entry of the catalogue: a feature of a task, an item of a delivery, or an output without features.

    Attributes:
        id: The ID of the STAC item: safe as a file name and unique in the container.
        title: A short name for people: the feature ID, the file name or the kind of the output.
        parent_id: The task or the item; empty: the container itself.
        parent_name: The name of the task; empty if it is not known.
        block: The name of the processing block; empty if it is not known.
        outputs: The outputs of the ledger that the entry describes, the one that decides the state first.
        state: ``completed``, ``failed``, ``skipped``, ``cancelled`` or ``planned``.
        reason: The reason of the state; empty for a planned output.
        detail: One line with the cause of a failure.
        hint: The next step for the user after a failure; empty for the other states.
        feature_id: The ID that the provider gave the feature; empty if it gave none.
        footprint: The area; None if it is not known or not usable. See *notes* for the cause.
        datetime: RFC 3339 in UTC with ``Z``; None if the date is not known.
        start, end: The time span; both are set if *datetime* is None.
        datetime_source: The name of the property that has the date, or ``job`` or ``delivery`` if only the
            time of the container is known: that is not the time of the acquisition. Empty: no date at all.
        files: The existing files of the entry.
        properties: Normalised STAC properties, such as ``eo:cloud_cover`` or ``platform``.
        provider_properties: The properties of the feature as the provider wrote them (untrusted).
        notes: Sentences for people about values that were not usable.
    """

    id: str
    title: str
    parent_id: str
    parent_name: str
    block: str
    outputs: tuple[CatalogOutput, ...]
    state: str
    reason: str = ""
    detail: str = ""
    hint: str = ""
    feature_id: str = ""
    footprint: Footprint | None = None
    datetime: str | None = None
    start: str | None = None
    end: str | None = None
    datetime_source: str = ""
    files: tuple[CatalogFile, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    provider_properties: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def provider_text(self) -> str:
        """The properties of the provider as JSON text, which several writers store."""
        return encode_readable(self.provider_properties)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the outputs, without duplicates."""
        return tuple(dict.fromkeys(output.kind for output in self.outputs))

    @property
    def thumbnail(self) -> CatalogFile | None:
        """The picture of the entry; None if there is none."""
        return next((file for file in self.files if file.role in ("thumbnail", "overview")), None)

    @property
    def data(self) -> CatalogFile | None:
        """The main file: the data itself, otherwise the archive or the original; None if there is none."""
        for role in ("data", "original", "archive"):
            found = next((file for file in self.files if file.role == role), None)
            if found is not None:
                return found
        return None

    @property
    def raster(self) -> RasterHeader | None:
        """The header of the first raster of the entry."""
        return next((file.raster for file in self.files if file.raster is not None), None)


@dataclass(frozen=True, slots=True)
class CatalogContainer:
    """
    A container and its entries.

    Attributes:
        source: The name of the source, such as ``jobs`` or ``storage``.
        scope_id: The project or the workspace.
        scope_name: Its name; empty if it is not known.
        id: The job or the delivery.
        name: Its name; empty if it has none.
        folder: The folder of the container in the STAC catalogue: safe as a path, without a slash at the end.
        created_at, finished_at: RFC 3339 in UTC with ``Z``; *finished_at* is empty if it is not known.
        failure, failure_detail: Reason and cause if the outputs of the container could not be listed.
        is_unchanged: Whether the entries are equal to those of the catalogue that is replaced.
    """

    source: str
    scope_id: str
    scope_name: str
    id: str
    name: str
    status: str
    folder: str
    created_at: str
    finished_at: str
    entries: tuple[CatalogEntry, ...]
    failure: str = ""
    failure_detail: str = ""
    is_unchanged: bool = False


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """
    What all writers of one catalogue know.

    Attributes:
        output: The output directory. Files of entries are below it. A writer must not change it.
        folder: The new folder ``catalog``, which is published after all writers have finished.
        index: The new file ``index.html``, which is published to the output directory.
        written_at: The time at the start of the pass, in UTC.
        version: The version of bulkdl.
        running: The run that holds the lease of the output directory; empty if there is none.
        formats: The names of all formats of this catalogue.
    """

    output: Path
    folder: Path
    index: Path
    written_at: datetime
    version: str
    running: str = ""
    formats: frozenset[str] = frozenset()


class CatalogWriter(Protocol):
    """
    Writes one format of a catalogue. All methods block and run in one thread.

    A writer is created with ``CatalogInfo``. An error ends the pass; the new folder is then removed.
    """

    def add(self, container: CatalogContainer) -> None:
        """Add one container. Containers of one scope follow each other."""

    def finish(self) -> None:
        """Complete all files. Called once, after the last container."""

    def close(self) -> None:
        """Release everything that is open. Called once, even after a failure."""
