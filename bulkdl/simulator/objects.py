"""
Implement the bucket: the archives of all tasks with their paths and metadata.

An object is found by parsing its path. The bucket therefore stores only two bounded caches (structures of
bodies, and checksums) and the objects that a fault has replaced.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import google_crc32c

from bulkdl.simulator.account import SimulatedAccount, SimulatedJob, SimulatedTask
from bulkdl.simulator.archives import MAX_ZIP_BYTES, Members, create_archive, overhead_bytes
from bulkdl.simulator.documents import data_json
from bulkdl.simulator.geotiff import create_geotiff
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.lazy_bytes import Blob, LiteralBytes, iter_chunks

BUCKET = "interstellar-prod-processing-artifacts"
COMPOSITE_FROM_BYTES = 512 << 20  # composite objects have a crc32c but no md5, as on GCS
_INLINE_BYTES = 1 << 20
_K = TypeVar("_K")
_V = TypeVar("_V")
_MAX_CACHED_BODIES, _MAX_CACHED_CHECKSUMS = 512, 65_536


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums in base64, as in ``x-goog-hash``. *md5* is None for a composite object."""

    crc32c: str
    md5: str | None

    @property
    def etag(self) -> str:
        if self.md5 is None:
            return f'"-C{self.crc32c.rstrip("=")}EAE="'
        return f'"{base64.b64decode(self.md5).hex()}"'


@dataclass(frozen=True, slots=True)
class BucketObject:
    path: str
    body: Blob
    generation: int
    modified_at: datetime
    checksums: Checksums


@dataclass(frozen=True, slots=True)
class _Version:
    number: int = 0
    longer_by: int = 0


class Bucket:
    def __init__(self, account: SimulatedAccount) -> None:
        self.account = account
        self._bodies: OrderedDict[tuple[str, _Version], Blob] = OrderedDict()
        self._checksums: OrderedDict[tuple[str, _Version], Checksums] = OrderedDict()
        self._versions: dict[str, _Version] = {}

    async def get(self, path: str) -> BucketObject | None:
        """Return the object at *path* (unquoted, with leading slash), or None if it does not exist."""
        found = self._locate(path)
        if found is None:
            return None
        job, task = found
        version = self._versions.get(path, _Version())
        body = self._get_body(path, version, job, task)
        modified = (task.finished_at or job.created_at).replace(microsecond=0)
        generation = int(modified.timestamp()) * 1_000_000 + task.node % 1_000_000 + version.number
        if version.number:
            modified = datetime.now(UTC).replace(microsecond=0)
        return BucketObject(path, body, generation, modified, await self._get_checksums(path, version, body))

    def body(self, job: SimulatedJob, task: SimulatedTask) -> Blob:
        """Return the current content of the object."""
        path = object_path(job, task)
        return self._get_body(path, self._versions.get(path, _Version()), job, task)

    def replace_object(self, path: str, longer_by: int = 0) -> None:
        """Replace the object at *path* with different content, generation and validators."""
        old = self._versions.get(path, _Version())
        self._versions[path] = replace(old, number=old.number + 1, longer_by=old.longer_by + longer_by)

    def _locate(self, path: str) -> tuple[SimulatedJob, SimulatedTask] | None:
        parts = path.split("/")
        if len(parts) != 5:
            return None
        index = self.account.ids.decode(parts[2])
        if index is None or index.kind is not IdKind.JOB:
            return None
        job = self.account.find_job(index.project, parts[2])
        tasks = job.tasks if job else ()
        return next(
            ((job, task) for task in tasks if job and has_archive(task) and object_path(job, task) == path),
            None,
        )

    def _get_body(self, path: str, version: _Version, job: SimulatedJob, task: SimulatedTask) -> Blob:
        key = (path, version)
        if key not in self._bodies:
            self._bodies[key] = _build_body(job, task, version)
            _trim(self._bodies, _MAX_CACHED_BODIES)
        self._bodies.move_to_end(key)
        return self._bodies[key]

    async def _get_checksums(self, path: str, version: _Version, body: Blob) -> Checksums:
        key = (path, version)
        if key not in self._checksums:
            small = body.size <= _INLINE_BYTES
            self._checksums[key] = (
                compute_checksums(body) if small else await asyncio.to_thread(compute_checksums, body)
            )
            _trim(self._checksums, _MAX_CACHED_CHECKSUMS)
        return self._checksums[key]


def has_archive(task: SimulatedTask) -> bool:
    return task.archive_bytes is not None


def object_path(job: SimulatedJob, task: SimulatedTask) -> str:
    return f"/{BUCKET}/{job.id}/{job.id}-{task.node}/output.tgz"


def compute_checksums(body: Blob) -> Checksums:
    checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    md5 = hashlib.md5(usedforsecurity=False) if body.size < COMPOSITE_FROM_BYTES else None
    for chunk in iter_chunks(body):
        checksum.update(chunk)
        if md5:
            md5.update(chunk)
    return Checksums(
        base64.b64encode(checksum.digest()).decode(), base64.b64encode(md5.digest()).decode() if md5 else None
    )


def _build_body(job: SimulatedJob, task: SimulatedTask, version: _Version) -> Blob:
    target = task.archive_bytes or 0
    form = "tgz" if task.archive_format == "zip" and target >= MAX_ZIP_BYTES else task.archive_format
    members: list[tuple[str, Blob]] = [("output/data.json", LiteralBytes(data_json(task)))]
    rasters: Members = [(f"output/{feature.id}.tif", LiteralBytes(b"")) for feature in task.features]
    spare = target + version.longer_by - members[0][1].size - overhead_bytes(form, [*members, *rasters])
    for number, feature in enumerate(task.features):
        size = max(0, spare) // len(rasters) + (version.longer_by if spare < 0 else 0)
        key = f"{feature.id}/{version.number}".encode()
        members.append((rasters[number][0], create_geotiff(feature.bounds, size, key)))
    return create_archive(form, members, task.finished_at or job.created_at)


def _trim(cache: OrderedDict[_K, _V], limit: int) -> None:
    while len(cache) > limit:
        cache.popitem(last=False)
