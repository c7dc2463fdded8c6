"""Create an output directory with real files and a real ledger, without network access."""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import google_crc32c

from bulkdl.destinations.interfaces import LEDGER_NAME
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.maintenance.verify import VerifyOptions
from bulkdl.models import CommittedFile, Digest, Outcome, Reason, Result, Validator
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts
from bulkdl.sources.up42_jobs.models import Kind, job_container, job_output

P1 = "5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d"
J1 = "023694d4-1b52-46e8-a9a0-05c9ee23f15c"
J2 = "b5c33b12-aa62-4809-94b8-5352bdfecf4a"
T1 = "1f6e2a90-3c4d-4e5f-8a6b-7c8d9e0f1a2b"


def a_job(job_id=J1, project_id=P1, status="SUCCEEDED"):
    at = datetime(2022, 3, 10, 12, tzinfo=UTC)
    return job_container(project_id, job_id, status, "DEFAULT", "a job", at, at, None)


def archive(job_id=J1, task_id=None):
    return job_output(P1, job_id, task_id, Kind.ARCHIVE)


def quicklook(name, job_id=J1):
    return job_output(P1, job_id, T1, Kind.QUICKLOOK, name)


def crc32c(data):
    return Digest("crc32c", base64.b64encode(google_crc32c.Checksum(data).digest()).decode())


def md5(data):
    return Digest("md5", base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode())


def done(output, key, data, digest=crc32c, reason=Reason.DOWNLOADED):
    receipt = CommittedFile(key, len(data), digest(data), Validator(etag='"e"'), None)
    return Result(output, Outcome.COMPLETED, reason, receipt)


def failed(output, reason=Reason.STALLED, detail="it stood still"):
    return Result(output, Outcome.FAILED, reason, attempts=8, detail=detail)


class Folder:
    """An output directory with its ledger."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def options(self, **how) -> VerifyOptions:
        return VerifyOptions(self.root, installed_layouts(Settings()), **how)

    def put(self, key, data=b"bytes"):
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    async def ledger(self) -> Ledger:
        path = self.root / ".bulkdl" / LEDGER_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        return await Ledger.open(path)

    async def write(self, *statements):
        ledger = await self.ledger()
        try:
            for statement in statements:
                await ledger.write(statement)
        finally:
            await ledger.close()

    async def read(self, query):
        ledger = await self.ledger()
        try:
            return await ledger.read(query)
        finally:
            await ledger.close()

    async def record(self, *results, job=None):
        """Record *results* for *job*."""
        job = job or a_job()
        outputs = tuple(PlannedOutput(result.output) for result in results)
        listing = ContainerListing(job, outputs, frozenset(Kind), {})
        await self.write(
            lambda connection: queries.plan_container(connection, listing),
            lambda connection: queries.record_results(connection, results, "r1"),
        )

    async def rows(self):
        """Return state, reason and detail of each key."""

        def query(connection):
            rows = connection.execute("SELECT key, state, reason, detail FROM outputs ORDER BY id")
            return {row["key"]: (row["state"], row["reason"], row["detail"]) for row in rows}

        return await self.read(query)
