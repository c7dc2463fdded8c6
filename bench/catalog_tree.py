"""
Generate an output directory for the catalogue: a ledger, documents, GeoJSON, pictures and unpacked rasters.

Each job has ten outputs: archive and GeoJSON of the job, and archive, GeoJSON and two quicklooks of each of
two tasks. Each task has five features, so that a job has ten entries. Equal files are hard links.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from bulkdl.ledger.database import Ledger
from bulkdl.simulator.geotiff import create_geotiff
from bulkdl.simulator.lazy_bytes import read_all

OUTPUTS_PER_JOB, ENTRIES_PER_JOB = 10, 10
_TASKS, _FEATURES, _QUICKLOOKS = 2, 5, 2
_JOBS_PER_PROJECT = 2500
_MAX_LINKS = 50_000
_CREATED_AT = "2020-05-01T10:00:00+00:00"
_FINISHED_AT = "2020-05-01T11:00:00+00:00"
_INSERT_CONTAINER = """
INSERT INTO containers (source, scope, container_id, status, is_final, revision, created_at, finished_at,
    name, attributes, listed_kinds)
VALUES ('jobs', ?, ?, 'SUCCEEDED', 1, 'SUCCEEDED', ?, ?, ?, '{"mode":"DEFAULT"}',
    '["archive","geojson","quicklook"]') RETURNING id
"""
_INSERT_OUTPUT = """
INSERT INTO outputs (container, parent, kind, name, filename, state, reason, key, size_bytes, digest,
    attempts, run_id, recorded_at)
VALUES (?, ?, ?, ?, ?, 'completed', 'downloaded', ?, ?, ?, 1, 'bench', ?)
"""
_INSERT_UNPACKED = """
INSERT INTO derived (output, processor, version, state, key, size_bytes, digest, detail, recorded_at)
SELECT id, 'unpack', 1, 'completed', '', 0, digest, NULL, recorded_at FROM outputs
WHERE kind = 'archive' AND parent <> '' AND id > ?
"""


class _Content:
    """A file of which hard links are made; a file system limits the links of one file."""

    def __init__(self, folder: Path, name: str, data: bytes) -> None:
        self._path, self._data, self._links = folder / name, data, 0
        self.size_bytes = len(data)

    def link(self, target: str) -> None:
        if self._links % _MAX_LINKS == 0:
            self._path = self._path.with_name(f"{self._links}-{self._path.name.rpartition('-')[2]}")
            self._path.write_bytes(self._data)
        os.link(self._path, target)
        self._links += 1


@dataclass(frozen=True, slots=True)
class _Output:
    parent: str
    kind: str
    name: str
    key: str
    size_bytes: int
    digest: str


class CatalogTree:
    """
    The output directory *root*.

    Args:
        scratch: A folder on the same file system for the contents of hard links.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        scratch.mkdir(parents=True, exist_ok=True)
        self._raster = _Content(scratch, "raster", read_all(create_geotiff((13, 52, 14, 53), 4000, b"x")))
        self._picture = _Content(scratch, "picture", b"\xff\xd8\xff\xe0" + bytes(200) + b"\xff\xd9")
        self._archive = _Content(scratch, "archive", b"\x1f\x8b" + bytes(400))
        self._random = random.Random(1)
        self.jobs = 0

    def add_jobs(self, count: int) -> None:
        """Add *count* jobs to the directory and to its ledger."""
        asyncio.run(self._add_jobs(count))

    async def _add_jobs(self, count: int) -> None:
        state = self.root / ".bulkdl"
        state.mkdir(parents=True, exist_ok=True)
        ledger = await Ledger.open(state / "ledger.sqlite3", synchronous=False)
        try:
            await ledger.write(lambda connection: self._record(connection, count))
        finally:
            await ledger.close()

    def _record(self, connection: Connection, count: int) -> None:
        last = connection.execute("SELECT coalesce(max(id), 0) FROM outputs").fetchone()[0]
        for _ in range(count):
            project = str(uuid.UUID(int=1 + self.jobs // _JOBS_PER_PROJECT))
            job = str(uuid.UUID(int=self._random.getrandbits(128)))
            row = (project, job, _CREATED_AT, _FINISHED_AT, f"job {self.jobs}")
            container = connection.execute(_INSERT_CONTAINER, row).fetchone()[0]
            outputs = []
            for each in self._write_job(project, job):
                file = (each.key, each.size_bytes, each.digest, _FINISHED_AT)
                outputs.append((container, each.parent, each.kind, each.name, each.name, *file))
            connection.executemany(_INSERT_OUTPUT, outputs)
            self.jobs += 1
        connection.execute(_INSERT_UNPACKED, (last,))

    def _write_job(self, project: str, job: str) -> Iterator[_Output]:
        folder = self.root / project / job
        folder.mkdir(parents=True)
        tasks = [str(uuid.UUID(int=self._random.getrandbits(128))) for _ in range(_TASKS)]
        document = {"id": job, "name": "n", "startedAt": _CREATED_AT, "finishedAt": _FINISHED_AT}
        (folder / "job.json").write_text(json.dumps({"data": document, "error": None}))
        entries = [
            {"id": task, "name": f"block:{number}", "blockVersion": "1.0", "block": {"name": "block"}}
            for number, task in enumerate(tasks)
        ]
        (folder / "job_tasks.json").write_text(json.dumps({"data": entries, "error": None}))
        last: list[_Output] = []
        for task in tasks:
            last = list(self._write_task(project, job, task))
            yield from last
        key = f"{project}/{job}"
        for output, name in zip(last[:2], ("final_output.tar.gz", "job_output.json"), strict=True):
            os.link(self.root / output.key, folder / name)
            yield _Output("", output.kind, "", f"{key}/{name}", output.size_bytes, output.digest)

    def _write_task(self, project: str, job: str, task: str) -> Iterator[_Output]:
        key = f"{project}/{job}/{task}"
        folder = self.root / key
        for name in ("output", "quicklooks"):
            (folder / name).mkdir(parents=True)
        features = [self._feature(f"{task[:8]}-scene-{number}") for number in range(_FEATURES)]
        data = json.dumps({"type": "FeatureCollection", "features": features}).encode()
        (folder / "task_output.json").write_bytes(data)
        for feature in features:
            self._raster.link(f"{folder}/output/{feature['id']}.tif")
        self._archive.link(f"{folder}/task_output.tar.gz")
        digest = f"crc32c={task[:6]}=="
        self._write_manifest(f"{key}/task_output.tar.gz", features, digest)
        yield _Output(task, "archive", "", f"{key}/task_output.tar.gz", self._archive.size_bytes, digest)
        yield _Output(task, "geojson", "", f"{key}/task_output.json", len(data), f"crc32c={task[-6:]}==")
        for feature in features[:_QUICKLOOKS]:
            name = f"{feature['id']}.jpg"
            self._picture.link(f"{folder}/quicklooks/{name}")
            path = f"{key}/quicklooks/{name}"
            yield _Output(task, "quicklook", name, path, self._picture.size_bytes, "crc32c=AAAAAA==")

    def _feature(self, identity: str) -> dict[str, object]:
        west, south = self._random.uniform(-179, 178), self._random.uniform(-80, 79)
        east, north = west + 0.5, south + 0.5
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        return {
            "type": "Feature",
            "id": identity,
            "bbox": [west, south, east, north],
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "up42.data_path": f"{identity}.tif",
                "acquisitionDate": "2019-09-22T09:49:20.400Z",
                "cloudCover": 12.5,
                "platform": "sentinel-2a",
                "sceneId": identity,
                "providerProperties": {"processingLevel": "L2A", "angle": 7.25},
            },
        }

    def _write_manifest(self, key: str, features: list[dict[str, object]], digest: str) -> None:
        algorithm, _, value = digest.partition("=")
        lines: list[dict[str, object]] = [
            {
                "format": "bulkdl-unpacked",
                "version": 1,
                "archive": {algorithm: value, "size_bytes": self._archive.size_bytes},
                "folder": "output",
                "files": len(features),
                "size_bytes": 0,
                "left_out": 0,
            }
        ]
        for feature in features:
            size = self._raster.size_bytes
            member = {
                "path": f"{feature['id']}.tif",
                "size_bytes": size,
                "crc32c": "AA==",
                "sha256": "00" * 32,
            }
            lines.append(member)
        path = self.root / ".bulkdl/processors/unpack" / f"{key}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
