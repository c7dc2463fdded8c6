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

from bulkdl.simulator.account import Account, JobFacts, TaskFacts
from bulkdl.simulator.archives import MAX_ZIP_BYTES, Members, archive, overhead_bytes
from bulkdl.simulator.documents import data_json
from bulkdl.simulator.geotiff import geotiff
from bulkdl.simulator.ids import Thing
from bulkdl.simulator.lazy_bytes import Blob, Literal, chunks

BUCKET = "interstellar-prod-processing-artifacts"
COMPOSITE_FROM_BYTES = 512 << 20  # composite objects have a crc32c but no md5, as on GCS
_INLINE_BYTES = 1 << 20
_K = TypeVar("_K")
_V = TypeVar("_V")
_OUTLINES, _DIGESTS = 512, 65_536


@dataclass(frozen=True, slots=True)
class Digests:
    """Checksums in base64, as in ``x-goog-hash``. *md5* is None for a composite object."""

    crc32c: str
    md5: str | None

    @property
    def etag(self) -> str:
        if self.md5 is None:
            return f'"-C{self.crc32c.rstrip("=")}EAE="'
        return f'"{base64.b64decode(self.md5).hex()}"'


@dataclass(frozen=True, slots=True)
class StoredObject:
    path: str
    body: Blob
    generation: int
    modified_at: datetime
    digests: Digests


@dataclass(frozen=True, slots=True)
class _Version:
    number: int = 0
    longer_by: int = 0


class Bucket:
    def __init__(self, account: Account) -> None:
        self.account = account
        self._outlines: OrderedDict[tuple[str, _Version], Blob] = OrderedDict()
        self._digests: OrderedDict[tuple[str, _Version], Digests] = OrderedDict()
        self._versions: dict[str, _Version] = {}

    async def get(self, path: str) -> StoredObject | None:
        """Return the object at *path* (unquoted, with leading slash), or None if it does not exist."""
        found = self._locate(path)
        if found is None:
            return None
        job, task = found
        version = self._versions.get(path, _Version())
        body = self._outline(path, version, job, task)
        modified = (task.finished_at or job.created_at).replace(microsecond=0)
        generation = int(modified.timestamp()) * 1_000_000 + task.node % 1_000_000 + version.number
        if version.number:
            modified = datetime.now(UTC).replace(microsecond=0)
        return StoredObject(path, body, generation, modified, await self._digest(path, version, body))

    def body(self, job: JobFacts, task: TaskFacts) -> Blob:
        """Return the current content of the object."""
        path = object_path(job, task)
        return self._outline(path, self._versions.get(path, _Version()), job, task)

    def replace_object(self, path: str, longer_by: int = 0) -> None:
        """Replace the object at *path* with different content, generation and validators."""
        old = self._versions.get(path, _Version())
        self._versions[path] = replace(old, number=old.number + 1, longer_by=old.longer_by + longer_by)

    def _locate(self, path: str) -> tuple[JobFacts, TaskFacts] | None:
        parts = path.split("/")
        if len(parts) != 5:
            return None
        index = self.account.ids.decode(parts[2])
        if index is None or index.thing is not Thing.JOB:
            return None
        job = self.account.find_job(index.project, parts[2])
        tasks = job.tasks if job else ()
        return next(
            ((job, task) for task in tasks if job and has_archive(task) and object_path(job, task) == path),
            None,
        )

    def _outline(self, path: str, version: _Version, job: JobFacts, task: TaskFacts) -> Blob:
        key = (path, version)
        if key not in self._outlines:
            self._outlines[key] = _build(job, task, version)
            _trim(self._outlines, _OUTLINES)
        self._outlines.move_to_end(key)
        return self._outlines[key]

    async def _digest(self, path: str, version: _Version, body: Blob) -> Digests:
        key = (path, version)
        if key not in self._digests:
            small = body.size <= _INLINE_BYTES
            self._digests[key] = digest(body) if small else await asyncio.to_thread(digest, body)
            _trim(self._digests, _DIGESTS)
        return self._digests[key]


def has_archive(task: TaskFacts) -> bool:
    return task.archive_bytes is not None


def object_path(job: JobFacts, task: TaskFacts) -> str:
    return f"/{BUCKET}/{job.id}/{job.id}-{task.node}/output.tgz"


def digest(body: Blob) -> Digests:
    checksum: Any = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    md5 = hashlib.md5(usedforsecurity=False) if body.size < COMPOSITE_FROM_BYTES else None
    for chunk in chunks(body):
        checksum.update(chunk)
        if md5:
            md5.update(chunk)
    return Digests(
        base64.b64encode(checksum.digest()).decode(), base64.b64encode(md5.digest()).decode() if md5 else None
    )


def _build(job: JobFacts, task: TaskFacts, version: _Version) -> Blob:
    target = task.archive_bytes or 0
    form = "tgz" if task.form == "zip" and target >= MAX_ZIP_BYTES else task.form
    members: list[tuple[str, Blob]] = [("output/data.json", Literal(data_json(task)))]
    rasters: Members = [(f"output/{feature.id}.tif", Literal(b"")) for feature in task.features]
    spare = target + version.longer_by - members[0][1].size - overhead_bytes(form, [*members, *rasters])
    for number, feature in enumerate(task.features):
        size = max(0, spare) // len(rasters) + (version.longer_by if spare < 0 else 0)
        key = f"{feature.id}/{version.number}".encode()
        members.append((rasters[number][0], geotiff(feature.bounds, size, key)))
    return archive(form, members, task.finished_at or job.created_at)


def _trim(cache: OrderedDict[_K, _V], limit: int) -> None:
    while len(cache) > limit:
        cache.popitem(last=False)
