"""
A GeoPackage file, written with the SQLite of the standard library (OGC 12-128r18, version 1.3).

The file is new, so it needs no journal. Rows are inserted in batches. The spatial index is filled with them.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bulkdl.processors.catalog.facts import Ring
from bulkdl.processors.catalog.wkb import encode_multipolygon

WGS84 = 4326
_APPLICATION_ID, _USER_VERSION = 0x47504B47, 10300
_BATCH = 1000
_WGS84_WKT = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)
_SCHEMA = """
CREATE TABLE gpkg_spatial_ref_sys (
  srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (
  table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL, min_x DOUBLE, min_y DOUBLE, max_x DOUBLE,
  max_y DOUBLE, srs_id INTEGER REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (
  table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL,
  srs_id INTEGER NOT NULL REFERENCES gpkg_spatial_ref_sys(srs_id), z TINYINT NOT NULL, m TINYINT NOT NULL,
  PRIMARY KEY (table_name, column_name), UNIQUE (table_name));
CREATE TABLE gpkg_extensions (
  table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL,
  scope TEXT NOT NULL, UNIQUE (table_name, column_name, extension_name));
"""
_REFERENCE_SYSTEMS = (
    ("Undefined cartesian SRS", -1, "NONE", -1, "undefined", "undefined cartesian coordinates"),
    ("Undefined geographic SRS", 0, "NONE", 0, "undefined", "undefined geographic coordinates"),
    ("WGS 84 geodetic", WGS84, "EPSG", WGS84, _WGS84_WKT, "longitude/latitude in decimal degrees"),
)
# A program that edits the file needs the triggers of the extension "gpkg_rtree_index".
_TRIGGERS = (
    """CREATE TRIGGER "rtree_{t}_geom_insert" AFTER INSERT ON "{t}"
    WHEN (new.geom NOT NULL AND NOT ST_IsEmpty(NEW.geom)) BEGIN
    INSERT OR REPLACE INTO "rtree_{t}_geom" VALUES (NEW.fid, ST_MinX(NEW.geom), ST_MaxX(NEW.geom),
    ST_MinY(NEW.geom), ST_MaxY(NEW.geom)); END""",
    """CREATE TRIGGER "rtree_{t}_geom_update2" AFTER UPDATE OF geom ON "{t}"
    WHEN OLD.fid = NEW.fid AND (NEW.geom ISNULL OR ST_IsEmpty(NEW.geom)) BEGIN
    DELETE FROM "rtree_{t}_geom" WHERE id = OLD.fid; END""",
    """CREATE TRIGGER "rtree_{t}_geom_update4" AFTER UPDATE ON "{t}"
    WHEN OLD.fid != NEW.fid AND (NEW.geom ISNULL OR ST_IsEmpty(NEW.geom)) BEGIN
    DELETE FROM "rtree_{t}_geom" WHERE id IN (OLD.fid, NEW.fid); END""",
    """CREATE TRIGGER "rtree_{t}_geom_update5" AFTER UPDATE ON "{t}"
    WHEN OLD.fid != NEW.fid AND (NEW.geom NOTNULL AND NOT ST_IsEmpty(NEW.geom)) BEGIN
    DELETE FROM "rtree_{t}_geom" WHERE id = OLD.fid;
    INSERT OR REPLACE INTO "rtree_{t}_geom" VALUES (NEW.fid, ST_MinX(NEW.geom), ST_MaxX(NEW.geom),
    ST_MinY(NEW.geom), ST_MaxY(NEW.geom)); END""",
    """CREATE TRIGGER "rtree_{t}_geom_update6" AFTER UPDATE OF geom ON "{t}"
    WHEN OLD.fid = NEW.fid AND (NEW.geom NOTNULL AND NOT ST_IsEmpty(NEW.geom))
    AND (OLD.geom NOTNULL AND NOT ST_IsEmpty(OLD.geom)) BEGIN
    UPDATE "rtree_{t}_geom" SET minx = ST_MinX(NEW.geom), maxx = ST_MaxX(NEW.geom),
    miny = ST_MinY(NEW.geom), maxy = ST_MaxY(NEW.geom) WHERE id = NEW.fid; END""",
    """CREATE TRIGGER "rtree_{t}_geom_update7" AFTER UPDATE OF geom ON "{t}"
    WHEN OLD.fid = NEW.fid AND (NEW.geom NOTNULL AND NOT ST_IsEmpty(NEW.geom))
    AND (OLD.geom ISNULL OR ST_IsEmpty(OLD.geom)) BEGIN
    INSERT INTO "rtree_{t}_geom" VALUES (NEW.fid, ST_MinX(NEW.geom), ST_MaxX(NEW.geom),
    ST_MinY(NEW.geom), ST_MaxY(NEW.geom)); END""",
    """CREATE TRIGGER "rtree_{t}_geom_delete" AFTER DELETE ON "{t}" WHEN old.geom NOT NULL BEGIN
    DELETE FROM "rtree_{t}_geom" WHERE id = OLD.fid; END""",
)

Envelope = tuple[float, float, float, float]
"""Minimum x, maximum x, minimum y, maximum y."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A geometry in the binary format of GeoPackage, and its envelope."""

    data: bytes
    envelope: Envelope


def encode_shape(polygons: Sequence[Sequence[Ring]], srs_id: int = WGS84) -> Shape:
    """Return a MultiPolygon."""
    xs = [x for polygon in polygons for x, _ in polygon[0]]
    ys = [y for polygon in polygons for _, y in polygon[0]]
    envelope = (min(xs), max(xs), min(ys), max(ys))
    head = struct.pack("<2sBBi4d", b"GP", 0, 0b00000011, srs_id, *envelope)
    return Shape(head + encode_multipolygon(polygons), envelope)


def format_time(instant: str | None) -> str | None:
    """Return a time in RFC 3339 as GeoPackage requires it: with milliseconds."""
    if not instant:
        return None
    seconds, _, fraction = instant.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction[:3]:0<3}Z"


class GeoPackage:
    """
    A GeoPackage file at *path*.

    Args:
        previous: The file of which *path* becomes a copy, to change it; None for an empty file.
    """

    def __init__(
        self, path: Path, written_at: datetime, *, previous: Path | None = None, cache_kib: int = 4096
    ) -> None:
        self._stamp = f"{written_at:%Y-%m-%dT%H:%M:%S.000Z}"
        self._layers: list[Layer] = []
        self._is_copy = previous is not None
        if previous is not None:
            shutil.copyfile(previous, path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = OFF")
        self.connection.execute("PRAGMA synchronous = OFF")
        self.connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        if not self._is_copy:
            self._create()
        self.connection.execute("BEGIN")

    def _create(self) -> None:
        self.connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self.connection.execute(f"PRAGMA user_version = {_USER_VERSION}")
        self.connection.executescript(_SCHEMA)
        insert = "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)"
        self.connection.executemany(insert, _REFERENCE_SYSTEMS)

    def add_srs(self, epsg: int) -> None:
        """Add a reference system by its EPSG code. Readers look up its definition."""
        self.connection.execute(
            "INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES (?, ?, 'EPSG', ?, 'undefined', NULL)",
            (f"EPSG:{epsg}", epsg, epsg),
        )

    def add_layer(
        self,
        name: str,
        columns: Sequence[tuple[str, str]],
        *,
        description: str = "",
        srs_id: int | None = WGS84,
    ) -> Layer:
        """
        Create a table, or open that of the copied file.

        Args:
            columns: Names and SQL types of the columns after ``fid`` and ``geom``.
            srs_id: The reference system; None: the table has no geometry.
        """
        layer = Layer(self.connection, name, columns, srs_id)
        self._layers.append(layer)
        if self._is_copy:
            layer.open(self._stamp)
            return layer
        layer.create()
        self.connection.execute(
            "INSERT INTO gpkg_contents VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, ?)",
            (name, "attributes" if srs_id is None else "features", name, description, self._stamp, srs_id),
        )
        return layer

    def finish(self) -> None:
        """Write the waiting rows, the extents and the triggers, and commit."""
        for layer in self._layers:
            layer.finish()
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()


class Layer:
    """A table of a GeoPackage with the columns *project* and *job*; see ``GeoPackage.add_layer``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        columns: Sequence[tuple[str, str]],
        srs_id: int | None,
    ) -> None:
        self._connection = connection
        self._name = name
        self._has_geometry = srs_id is not None
        self._rows: list[tuple[object, ...]] = []
        self._boxes: list[tuple[int, float, float, float, float]] = []
        self._extent: Envelope | None = None
        self.count = 0
        self._srs_id = srs_id
        self._columns = (*([("geom", "MULTIPOLYGON")] if self._has_geometry else []), *columns)
        marks = ", ".join("?" * (1 + len(self._columns)))
        self._insert = f'INSERT INTO "{name}" VALUES ({marks})'  # noqa: S608 - only placeholders

    def create(self) -> None:
        """Create the table, the index of the containers, and the spatial index."""
        fields = ", ".join(f'"{column}" {kind}' for column, kind in self._columns)
        self._connection.execute(
            f'CREATE TABLE "{self._name}" (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, {fields})'
        )
        self._connection.execute(f'CREATE INDEX "{self._name}_by_job" ON "{self._name}" (job)')
        if self._has_geometry:
            self._add_index()

    def open(self, stamp: str) -> None:
        """Prepare the table of a copied file for changes: its triggers need functions of other programs."""
        query = f'SELECT coalesce(max(fid), 0) FROM "{self._name}"'  # noqa: S608 - a constant
        self.count = self._connection.execute(query).fetchone()[0]
        triggers = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?", (self._name,)
        )
        for (trigger,) in triggers.fetchall():
            self._connection.execute(f'DROP TRIGGER "{trigger}"')
        row = self._connection.execute(
            "SELECT min_x, max_x, min_y, max_y FROM gpkg_contents WHERE table_name = ?", (self._name,)
        ).fetchone()
        self._extent = None if row is None or None in row else row
        self._connection.execute(
            "UPDATE gpkg_contents SET last_change = ? WHERE table_name = ?", (stamp, self._name)
        )

    def remove(self, scope_id: str, container_id: str) -> None:
        """Remove the rows of a container."""
        self._flush()
        where = f'FROM "{self._name}" WHERE job = ? AND project = ?'
        values = (container_id, scope_id)
        if self._has_geometry:
            self._connection.execute(
                f'DELETE FROM "rtree_{self._name}_geom" WHERE id IN (SELECT fid {where})',  # noqa: S608
                values,
            )
        self._connection.execute(f"DELETE {where}", values)

    def is_empty(self) -> bool:
        """Return whether the table has no rows; call it after ``finish``."""
        query = f'SELECT 1 FROM "{self._name}" LIMIT 1'  # noqa: S608 - a constant
        return self._connection.execute(query).fetchone() is None

    def _add_index(self) -> None:
        self._connection.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', ?, 0, 0)",
            (self._name, self._srs_id),
        )
        self._connection.execute(
            "INSERT INTO gpkg_extensions VALUES (?, 'geom', 'gpkg_rtree_index',"
            " 'http://www.geopackage.org/spec120/#extension_rtree', 'write-only')",
            (self._name,),
        )
        self._connection.execute(
            f'CREATE VIRTUAL TABLE "rtree_{self._name}_geom" USING rtree(id, minx, maxx, miny, maxy)'
        )

    def add(self, shape: Shape | None, values: Sequence[object]) -> None:
        """Add a row; *shape* is None for a row without a geometry."""
        self.count += 1
        geometry = (shape.data if shape is not None else None,) if self._has_geometry else ()
        self._rows.append((self.count, *geometry, *values))
        if shape is not None:
            self._boxes.append((self.count, *shape.envelope))
            self._extend(shape.envelope)
        if len(self._rows) >= _BATCH:
            self._flush()

    def _extend(self, envelope: Envelope) -> None:
        own = self._extent or envelope
        self._extent = (
            min(own[0], envelope[0]),
            max(own[1], envelope[1]),
            min(own[2], envelope[2]),
            max(own[3], envelope[3]),
        )

    def _flush(self) -> None:
        self._connection.executemany(self._insert, self._rows)
        if self._boxes:
            index = f'INSERT INTO "rtree_{self._name}_geom" VALUES (?, ?, ?, ?, ?)'  # noqa: S608
            self._connection.executemany(index, self._boxes)
        self._rows.clear()
        self._boxes.clear()

    def finish(self) -> None:
        """Write the waiting rows and what the table needs for editing."""
        self._flush()
        if not self._has_geometry:
            return
        for trigger in _TRIGGERS:
            self._connection.execute(trigger.format(t=self._name))
        if self._extent is not None:
            west, east, south, north = self._extent
            self._connection.execute(
                "UPDATE gpkg_contents SET min_x = ?, min_y = ?, max_x = ?, max_y = ? WHERE table_name = ?",
                (west, south, east, north, self._name),
            )
