"""
Implement the storage: archives of tasks, originals and item assets with their paths and metadata.

An object is found by parsing its path. The bucket therefore stores only the objects that a fault has
replaced. Two bounded caches (structures of bodies, and checksums) are shared by all buckets of the process,
because equal accounts have equal objects.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import google_crc32c

from bulkdl.simulator.account import SimulatedAccount, SimulatedJob, SimulatedTask
from bulkdl.simulator.archives import MAX_ZIP_BYTES, Members, create_archive, overhead_bytes
from bulkdl.simulator.documents import data_json
from bulkdl.simulator.geotiff import create_geotiff
from bulkdl.simulator.ids import IdKind
from bulkdl.simulator.lazy_bytes import Blob, LiteralBytes, iter_chunks
from bulkdl.simulator.v2.bodies import create_body
from bulkdl.simulator.v2.objects import find_object

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
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class _Version:
    number: int = 0
    longer_by: int = 0


@dataclass(frozen=True, slots=True)
class _Source:
    """Metadata of an object, available before its content is created."""

    modified_at: datetime
    node: int
    create_body: Callable[[_Version], Blob]
    content_type: str = "application/octet-stream"


_Key = tuple[SimulatedAccount, str, _Version]
_bodies: OrderedDict[_Key, Blob] = OrderedDict()
_checksums: OrderedDict[_Key, Checksums] = OrderedDict()


class Bucket:
    def __init__(self, account: SimulatedAccount) -> None:
        self.account = account
        self._versions: dict[str, _Version] = {}

    async def get(self, path: str) -> BucketObject | None:
        """Return the object at *path* (unquoted, with leading slash), or None if it does not exist."""
        source = self._locate(path)
        if source is None:
            return None
        version = self._versions.get(path, _Version())
        body = self._get_body(path, version, source.create_body)
        modified = source.modified_at.replace(microsecond=0)
        generation = int(modified.timestamp()) * 1_000_000 + source.node % 1_000_000 + version.number
        if version.number:
            modified = datetime.now(UTC).replace(microsecond=0)
        checksums = await self._get_checksums(path, version, body)
        return BucketObject(path, body, generation, modified, checksums, source.content_type)

    def body(self, job: SimulatedJob, task: SimulatedTask) -> Blob:
        """Return the current content of the archive of *task*."""
        return self.read(object_path(job, task))

    def read(self, path: str) -> Blob:
        """Return the current content of the object at *path*. Raises: KeyError."""
        source = self._locate(path)
        if source is None:
            raise KeyError(path)
        return self._get_body(path, self._versions.get(path, _Version()), source.create_body)

    def replace_object(self, path: str, longer_by: int = 0) -> None:
        """Replace the object at *path* with different content, generation and validators."""
        old = self._versions.get(path, _Version())
        self._versions[path] = replace(old, number=old.number + 1, longer_by=old.longer_by + longer_by)

    def _locate(self, path: str) -> _Source | None:
        asset = find_object(self.account.deliveries, path)
        if asset:
            file, modified_at = asset
            return _Source(
                modified_at,
                zlib.crc32(file.id.encode()),
                lambda version: create_body(file, version.number, version.longer_by),
                file.media_type.partition(";")[0],
            )
        return self._locate_archive(path)

    def _locate_archive(self, path: str) -> _Source | None:
        parts = path.split("/")
        if len(parts) != 5:
            return None
        index = self.account.ids.decode(parts[2])
        if index is None or index.kind is not IdKind.JOB:
            return None
        job = self.account.find_job(index.project, parts[2])
        for task in job.tasks if job else ():
            if job and has_archive(task) and object_path(job, task) == path:
                return _Source(task.finished_at or job.created_at, task.node, partial(_build_body, job, task))
        return None

    def _get_body(self, path: str, version: _Version, create: Callable[[_Version], Blob]) -> Blob:
        key = (self.account, path, version)
        body = _bodies.get(key)
        if body is None:
            body = _bodies[key] = create(version)
            _trim(_bodies, _MAX_CACHED_BODIES)
        return body

    async def _get_checksums(self, path: str, version: _Version, body: Blob) -> Checksums:
        key = (self.account, path, version)
        checksums = _checksums.get(key)
        if checksums is None:
            small = body.size <= _INLINE_BYTES
            checksums = compute_checksums(body) if small else await asyncio.to_thread(compute_checksums, body)
            _checksums[key] = checksums
            _trim(_checksums, _MAX_CACHED_CHECKSUMS)
        return checksums


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
