"""
An API and a storage that send raw bytes, so that a test can send invalid responses.

One project has one finished job with one task: an archive, a quicklook and a GeoJSON file.
"""

import asyncio
import contextlib
import io
import json
import random
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bulkdl.graph.downloader import Downloader
from bulkdl.selection import Selection
from bulkdl.settings import CredentialSet, Settings
from bulkdl.settings.levels import Level
from bulkdl.simulator.pictures import create_picture
from bulkdl.sources.up42_jobs.filters import JobFilters

PROJECT = "1eb80bd5-4f3c-4d10-9b1b-7a0c5f0f8a01"
JOB = "2eb80bd5-4f3c-4d10-9b1b-7a0c5f0f8a02"
TASK = "3eb80bd5-4f3c-4d10-9b1b-7a0c5f0f8a03"
ENDPOINTS = ("token", "jobs", "tasks", "names", "sign", "archive", "quicklook", "geojson")

ResponseChange = Callable[[bytes], bytes]
"""Return the bytes to send for the bytes of the default response."""


def _archive(size: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("output/data.bin")
        info.size = size
        archive.addfile(info, io.BytesIO(random.Random(size).randbytes(size)))
    return made.getvalue()


@dataclass
class RawOrigin:
    """
    Attributes:
        changes: Change of the default response, by endpoint.
        pauses_s: Seconds before the headers and before the second half of the body, by endpoint.
        requests: Endpoint and headers of each request.
    """

    archive_bytes: int = 40_000
    changes: dict[str, ResponseChange] = field(default_factory=dict)
    pauses_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    etag: bytes = b'"v1"'
    port: int = 0

    def __post_init__(self) -> None:
        self._serving: set[asyncio.Task[Any]] = set()
        self.archive = _archive(self.archive_bytes)
        self.quicklook = create_picture("q", "jpeg")
        self.geojson = b'{"type": "FeatureCollection", "features": []}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, endpoint: str) -> int:
        return sum(requested == endpoint for requested, _ in self.requests)

    def _endpoint(self, target: str) -> str:
        path = target.partition("?")[0]
        ends = {
            "/oauth/token": "token",
            "/jobs": "jobs",
            "/tasks": "tasks",
            "/outputs/quicklooks": "names",
            "/downloads/results": "sign",
            "/outputs/data-json": "geojson",
            "/object": "archive",
        }
        return next((endpoint for end, endpoint in ends.items() if path.endswith(end)), "quicklook")

    def _body(self, endpoint: str, target: str) -> tuple[str, bytes]:
        timestamp = "2024-01-01T00:00:00Z"
        job = {
            "id": JOB,
            "status": "SUCCEEDED",
            "mode": "DEFAULT",
            "createdAt": timestamp,
            "finishedAt": timestamp,
        }
        documents: dict[str, Any] = {
            "token": {"access_token": "T", "expires_in": 300},
            "jobs": {"data": [job] if "page=0" in target else []},
            "tasks": {"data": [{"id": TASK, "status": "SUCCEEDED", "name": "t", "parentsIds": []}]},
            "names": {"data": ["a.jpeg"]},
            "sign": {"data": {"url": f"{self.url}/object?Expires=9999999999&Signature=canary"}},
        }
        if endpoint in documents:
            return "application/json", json.dumps(documents[endpoint]).encode()
        return {
            "archive": ("application/gzip", self.archive),
            "quicklook": ("image/jpeg", self.quicklook),
            "geojson": ("application/json", self.geojson),
        }[endpoint]

    def _default_response(self, endpoint: str, head: bytes) -> bytes:
        content_type, body = self._body(endpoint, head.split(b" ")[1].decode())
        lines = [b"HTTP/1.1 200 OK", b"Content-Type: " + content_type.encode()]
        if endpoint == "archive":
            lines.append(b"Accept-Ranges: bytes")
        if endpoint in ("archive", "quicklook", "geojson"):
            lines.append(b"ETag: " + self.etag)
        lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # asyncio would log it
                await self._respond(reader, writer)
        finally:
            writer.transport.abort()
            self._serving.discard(task)

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                length = next(
                    line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
                )
                await reader.readexactly(int(length.split(b":")[1]))
            endpoint = self._endpoint(head.split(b" ")[1].decode())
            self.requests.append((endpoint, head))
            response = self.changes.get(endpoint, bytes)(self._default_response(endpoint, head))
            before_head_s, in_body_s = self.pauses_s.get(endpoint, (0.0, 0.0))
            await asyncio.sleep(before_head_s)
            middle = (response.find(b"\r\n\r\n") + len(response)) // 2
            writer.write(response[:middle])
            await writer.drain()
            await asyncio.sleep(in_body_s)
            writer.write(response[middle:])
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["RawOrigin"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def run(self, root: Path, **settings: Any) -> tuple[int, dict[str, tuple[str, str, str]]]:
        """Return the exit code, and outcome, reason and detail of each output by its kind."""
        swift = {"retries": 2, "retry_base_delay": 0.001, "retry_max_delay": 0.002, "retry_after_max": 0.01}
        chosen = Settings(api_url=self.url, output=root, **(swift | settings))
        book = CredentialSet(by_project={PROJECT: SecretStr("key")}, project_ids=(PROJECT,))
        selection = Selection(filters=JobFilters(levels=frozenset({Level.TASK})))
        async with Downloader(chosen, credentials=book) as downloader, downloader.stream(selection) as stream:
            results = [result async for result in stream]
        assert downloader.summary is not None
        ends = {
            result.output.kind: (result.outcome.value, result.reason.value, result.detail)
            for result in results
        }
        return int(downloader.summary.exit_code), ends


def set_header(line: bytes) -> ResponseChange:
    """Set the header *line*. It replaces a header with the same name."""
    name = line.split(b":")[0].lower()

    def changed(response: bytes) -> bytes:
        head, _, body = response.partition(b"\r\n\r\n")
        kept = [old for old in head.split(b"\r\n") if old.split(b":")[0].lower() != name]
        return b"\r\n".join([*kept, line]) + b"\r\n\r\n" + body

    return changed


def respond_with_status(code: int, *lines: bytes, body: bytes = b"") -> ResponseChange:
    """Respond with status *code*, header *lines* and *body*."""
    head = b"\r\n".join([b"HTTP/1.1 %d -" % code, *lines, b"Content-Length: %d" % len(body)])
    return lambda _: head + b"\r\n\r\n" + body
