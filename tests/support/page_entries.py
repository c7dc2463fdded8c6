"""Generate entries for the page of a catalogue: clustered footprints, all states, no files on disk."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from bulkdl.processors.catalog.facts import (
    CatalogContainer,
    CatalogEntry,
    CatalogFile,
    CatalogInfo,
    CatalogOutput,
    Footprint,
    RasterHeader,
)
from bulkdl.processors.catalog.page.writer import PageWriter

ENTRIES_PER_JOB = 10
_FAILED_PER_MILLE, _SKIPPED_PER_MILLE = 20, 40
_START = datetime(2019, 1, 1, tzinfo=UTC)
_BLOCKS = ("sobloo-s2-l1c-fullscene", "oneatlas-pleiades-display", "data-conversion", "pansharpen")
_CITIES = (
    (13.4, 52.5),
    (2.35, 48.86),
    (-58.4, -34.6),
    (139.7, 35.7),
    (36.8, -1.3),
    (-122.4, 37.8),
    (179.9, -17.0),
)


def write_page(
    target: Path, containers: Iterator[CatalogContainer] | list[CatalogContainer], running: str = ""
) -> Path:
    """Write a page to *target* and return the path of index.html."""
    folder = target / "catalog"
    folder.mkdir(parents=True)
    info = CatalogInfo(
        output=target,
        folder=folder,
        index=target / "index.html",
        written_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        version="0.1.0",
        running=running,
        formats=frozenset({"page", "stac", "gpkg"}),
    )
    writer = PageWriter(info)
    for container in containers:
        writer.add(container)
    writer.finish()
    writer.close()
    return info.index


def generate_containers(count: int, seed: int = 1) -> Iterator[CatalogContainer]:
    """Yield containers with *count* entries in total."""
    rng = random.Random(seed)
    for number in range(math.ceil(count / ENTRIES_PER_JOB)):
        size = min(ENTRIES_PER_JOB, count - number * ENTRIES_PER_JOB)
        project = str(UUID(int=number % 7, version=4))
        job = str(UUID(int=rng.getrandbits(128), version=4))
        created = _START + timedelta(minutes=rng.randrange(3_000_000))
        city = _CITIES[number % len(_CITIES)]
        yield CatalogContainer(
            source="jobs",
            scope_id=project,
            scope_name=f"project {number % 7}",
            id=job,
            name=f"monitoring {number}",
            status="SUCCEEDED",
            folder=f"{project}/{job}",
            created_at=_format(created),
            finished_at=_format(created + timedelta(minutes=9)),
            entries=tuple(_create_entry(rng, project, job, city, created) for _ in range(size)),
        )


def _create_entry(
    rng: random.Random, project: str, job: str, city: tuple[float, float], created: datetime
) -> CatalogEntry:
    chance = rng.randrange(1000)
    state = "completed"
    if chance < _FAILED_PER_MILLE:
        state = "failed"
    elif chance < _FAILED_PER_MILLE + _SKIPPED_PER_MILLE:
        state = "skipped"
    name = str(UUID(int=rng.getrandbits(128), version=4))
    task = str(UUID(int=rng.getrandbits(128), version=4))
    folder = f"{project}/{job}/{task}"
    reason = {"completed": "downloaded", "failed": "checksum_mismatch", "skipped": "not_available"}[state]
    return CatalogEntry(
        id=f"{task[:8]}-{name}",
        title=f"{name}.tif",
        parent_id=task,
        parent_name=f"{rng.choice(_BLOCKS)}:1",
        block=rng.choice(_BLOCKS),
        outputs=(CatalogOutput("archive", "", f"{folder}/task_output.tar.gz"),),
        state=state,
        reason=reason,
        detail="expected crc32c=AAAAAA==, actual crc32c=BBBBBB==" if state == "failed" else "",
        hint="check the network and the proxy, then run again" if state == "failed" else "",
        feature_id=name,
        footprint=None if rng.random() < 0.01 else create_footprint(rng, city),
        datetime=_format(created - timedelta(days=2)),
        datetime_source="acquisitionDate",
        files=_create_files(folder, name) if state == "completed" else (),
        properties={"eo:cloud_cover": rng.randrange(100), "platform": "Sentinel-2A"},
        provider_properties={"id": name, "up42.data_path": f"{name}.tif"},
    )


def _create_files(folder: str, name: str) -> tuple[CatalogFile, ...]:
    raster = RasterHeader(1024, 1024, 3, "uint8", 4326, (0.0001, 0.0, 13.0, 0.0, -0.0001, 52.0))
    return (
        CatalogFile("data", "data", f"{folder}/output/{name}.tif", "image/tiff", 4_194_304, raster=raster),
        CatalogFile("thumbnail", "thumbnail", f"{folder}/quicklooks/{name}.jpg", "image/jpeg", 40_000),
        CatalogFile("metadata", "metadata", f"{folder}/task_output.json", "application/geo+json", 900),
    )


def create_footprint(rng: random.Random, city: tuple[float, float]) -> Footprint:
    """Return a rotated scene near *city*. East of 180 degrees it continues on the other side."""
    x, y = rng.gauss(city[0], 1.5), rng.gauss(city[1], 1.0)
    size = 0.02 * 2 ** rng.uniform(0, 5)
    tilt = size * 0.2
    corners = ((x + tilt, y + size), (x, y), (x + size, y - tilt), (x + size + tilt, y + size - tilt))
    ring = (*corners, corners[0])
    east = max(longitude for longitude, _ in corners)
    south, north = y - tilt, y + size
    if east <= 180 or x > 180:
        shift = 360 if x > 180 else 0
        moved = tuple((longitude - shift, latitude) for longitude, latitude in ring)
        return Footprint(((moved,),), (x - shift, south, east - shift, north))
    left = _box(x, south, 180.0, north)
    right = _box(-180.0, south, east - 360, north)
    return Footprint(((left,), (right,)), (x, south, east - 360, north))


def _box(west: float, south: float, east: float, north: float) -> tuple[tuple[float, float], ...]:
    return ((west, south), (east, south), (east, north), (west, north), (west, south))


def _format(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
