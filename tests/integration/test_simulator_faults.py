"""Test each fault with a raw socket client."""

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from multidict import CIMultiDict

from bulkdl.simulator import Faults, RequestRecord, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.fault_table import FAULTS
from bulkdl.simulator.scenarios import HOSTILE_NAMES

ACCOUNT = SimulatedAccount(projects=1, jobs=16, archive_bytes=100_000)


@dataclass
class RawResponse:
    """The bytes received on a new socket until its end. *status* is 0 without headers."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    reset: bool
    refused: bool = False

    @property
    def complete(self) -> bool:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return self.body.endswith(b"0\r\n\r\n")
        return len(self.body) == int(self.headers["Content-Length"])

    def json(self) -> Any:
        return json.loads(self.body)


async def send_request(url: str, *, max_bytes: int = 10_000_000, **headers: str) -> RawResponse:
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
    except ConnectionRefusedError:
        return RawResponse(0, CIMultiDict(), b"", reset=False, refused=True)
    lines = [f"GET {parts.path}?{parts.query} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    data, reset = b"", False
    try:
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        while len(data) < max_bytes and (chunk := await reader.read(65_536)):
            data += chunk
    except ConnectionResetError:
        reset = True
    finally:
        writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    code = int(status.split()[1]) if status else 0
    return RawResponse(code, CIMultiDict((name, value) for name, value in pairs), body, reset)


class Probe:
    """A simulator with a token, the correct bytes of one archive, and a fault script."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.job = simulator.account.job(0, 0)
        self.bearer = ""
        self.original = b""

    async def prepare(self) -> None:
        project = self.simulator.projects[0]
        basic = base64.b64encode(f"{project.id}:{project.api_key}".encode()).decode()
        parts = urlsplit(self.simulator.api_url)
        reader, writer = await asyncio.open_connection("127.0.0.1", parts.port)
        form = "grant_type=client_credentials"
        writer.write(
            f"POST /oauth/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {basic}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
        )
        response = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        self.bearer = f"Bearer {json.loads(response)['access_token']}"
        self.original = (await send_request(await self.signed())).body

    def meet(self, fault: str, **rule: Any) -> None:
        self.simulator.faults = Faults.from_rules({"fault": fault, **rule})

    async def api(self, path: str, **more: Any) -> RawResponse:
        base = f"{self.simulator.api_url}/projects/{self.job.project_id}"
        return await send_request(base + path, Authorization=self.bearer, **more)

    async def jobs(self, query: str = "") -> RawResponse:
        return await self.api(f"/jobs?{query}")

    async def quicklooks(self) -> RawResponse:
        return await self.api(f"/jobs/{self.job.id}/tasks/{self.job.tasks[0].id}/outputs/quicklooks")

    async def signed(self, job: int = 0) -> str:
        found = self.simulator.account.job(0, job)
        return str((await self.api(f"/jobs/{found.id}/downloads/results")).json()["data"]["url"])

    async def archive(self, **headers: Any) -> RawResponse:
        return await send_request(await self.signed(), **headers)


@asynccontextmanager
async def probing(**options: Any) -> AsyncIterator[Probe]:
    async with Simulator(ACCOUNT, SimulatorOptions(**options)) as simulator:
        probe = Probe(simulator)
        await probe.prepare()
        yield probe


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    async with probing() as ready:
        yield ready


async def test_no_fault_returns_the_unchanged_object(probe: Probe) -> None:
    response = await probe.archive()
    assert response.complete
    assert response.body == probe.original
    assert not response.reset


async def test_down_refuses_connections_and_reopens_the_same_port(probe: Probe) -> None:
    url = await probe.signed()
    probe.meet("down", server="storage", seconds=0.2, limit=1)
    first = await send_request(url)
    assert first.status == 0
    response = await send_request(url)
    assert response.refused
    async with asyncio.timeout(20):
        while response.refused:
            response = await send_request(url)
    assert response.body == probe.original


async def test_reset_closes_the_connection_before_any_header(probe: Probe) -> None:
    probe.meet("reset", server="storage")
    response = await probe.archive()
    assert (response.status, response.body, response.reset) == (0, b"", True)
    assert probe.simulator.requests[-1].faults == ("reset",)


@pytest.mark.parametrize("chunked", [False, True])
async def test_cut_ends_the_body_at_the_byte(probe: Probe, chunked: bool) -> None:
    probe.meet("cut", server="storage", at_byte=1_000, chunked=chunked)
    response = await probe.archive()
    assert ("Content-Length" in response.headers) is not chunked
    assert not response.complete
    if not chunked:
        assert response.body == probe.original[:1_000]
        assert probe.simulator.requests[-1].sent_bytes == 1_000


async def test_cut_with_reset_and_fraction_resets_the_connection(probe: Probe) -> None:
    probe.meet("cut", server="storage", at_fraction=0.25, reset=True)
    response = await probe.archive()
    assert response.reset
    assert len(response.body) <= len(probe.original) // 4 + 1


@asynccontextmanager
async def asking(probe: Probe, fault: str, **rule: Any) -> AsyncIterator[RequestRecord]:
    """Start a request for an archive that does not end, and yield its record."""
    url, before = await probe.signed(), len(probe.simulator.requests)
    probe.meet(fault, server="storage", **rule)
    task = asyncio.create_task(send_request(url))
    await until(lambda: len(probe.simulator.requests) > before and probe.simulator.requests[-1].status == 200)
    yield probe.simulator.requests[-1]
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event to set
            await asyncio.sleep(0)  # client and server run in this loop


async def test_stall_pauses_the_body_at_the_byte(probe: Probe) -> None:
    async with asking(probe, "stall", at_byte=500) as seen:
        await until(lambda: seen.sent_bytes == 500)
    probe.meet("stall", server="storage", at_byte=500, seconds=0.01)
    assert (await probe.archive()).body == probe.original


async def test_drip_sends_the_correct_body_slowly(probe: Probe) -> None:
    async with asking(probe, "drip", bytes_per_s=1_000) as seen:
        await until(lambda: seen.sent_bytes > 0)
        assert seen.sent_bytes == 50
    probe.meet("drip", server="storage", bytes_per_s=10_000_000)
    assert (await probe.archive()).body == probe.original


async def test_slow_headers_sends_single_bytes(probe: Probe) -> None:
    url = urlsplit(await probe.signed())
    probe.meet("slow_headers", server="storage", bytes_per_s=20)
    reader, writer = await asyncio.open_connection("127.0.0.1", url.port)
    writer.write(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert await reader.read(100) == b"H"
    assert probe.simulator.requests[-1].sent_bytes == 0
    writer.close()


async def test_latency_delays_an_unchanged_response(probe: Probe) -> None:
    probe.meet("latency", seconds=0.01)
    assert (await probe.archive()).body == probe.original


async def test_flip_changes_one_byte_and_keeps_the_checksum_header(probe: Probe) -> None:
    probe.meet("flip", server="storage", at_byte=77)
    response = await probe.archive()
    assert [n for n, (a, b) in enumerate(zip(response.body, probe.original, strict=True)) if a != b] == [77]
    md5 = hashlib.md5(probe.original, usedforsecurity=False).digest()
    assert f"md5={base64.b64encode(md5).decode()}" in response.headers.getall("x-goog-hash")


async def test_short_omits_a_byte_and_adapts_the_length(probe: Probe) -> None:
    probe.meet("short", server="storage")
    response = await probe.archive()
    assert response.complete
    assert response.body == probe.original[:-1]


@pytest.mark.parametrize("chunked", [False, True])
async def test_endless_sends_more_bytes_than_announced(probe: Probe, chunked: bool) -> None:
    probe.meet("endless", server="storage", chunked=chunked)
    response = await probe.archive(max_bytes=3_000_000)
    assert len(response.body) > 2_000_000
    probe.meet("endless", server="storage", extra_bytes=7)
    assert (await probe.archive()).body == probe.original + b"\0" * 7


async def test_range_faults_ignore_shift_or_reject_the_range(probe: Probe) -> None:
    probe.meet("ignore_range")
    response = await probe.archive(Range="bytes=50-")
    assert (response.status, response.body) == (200, probe.original)
    probe.meet("wrong_offset", shift=3)
    response = await probe.archive(Range="bytes=50-")
    assert (response.status, response.body) == (206, probe.original[53:])
    assert response.headers["Content-Range"] == f"bytes 53-{len(probe.original) - 1}/{len(probe.original)}"
    probe.meet("unsatisfiable")
    assert (await probe.archive(Range="bytes=50-")).status == 416
    assert (await probe.archive()).status == 200


@pytest.mark.parametrize("longer_by", [0, 2_048])
async def test_replaced_changes_the_object_permanently(probe: Probe, longer_by: int) -> None:
    before = await probe.archive()
    probe.meet("replaced", nth=1, longer_by=longer_by)
    after, again = await probe.archive(), await probe.archive()
    assert after.body == again.body != before.body
    assert (len(after.body) == len(before.body)) is (longer_by == 0)
    for name in ("ETag", "x-goog-generation", "Last-Modified"):
        assert after.headers[name] != before.headers[name]
    probe.simulator.faults = None
    assert (await probe.archive(**{"Range": "bytes=9-", "If-Range": before.headers["ETag"]})).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("url_expired", 400, b"<Code>ExpiredToken</Code>"),
        ("signature_mismatch", 403, b"<Code>SignatureDoesNotMatch</Code>"),
        ("xml_200", 200, b"<Code>InternalError</Code>"),
        ("html", 503, b"<html>"),
    ],
)
async def test_error_pages_replace_the_object(probe: Probe, fault: str, status: int, words: bytes) -> None:
    probe.meet(fault, server="storage")
    response = await probe.archive()
    assert (response.status, words in response.body) == (status, True)
    assert response.complete


async def test_status_returns_the_status(probe: Probe) -> None:
    probe.meet("status", status=502)
    assert (await probe.jobs()).json()["error"]["code"] == 502
    probe.meet("status", status=418, body="tea", server="storage")
    assert (await probe.archive()).body == b"tea"
    probe.meet("status", status=503, headers={"Retry-After": 9})
    assert (await probe.jobs()).headers["Retry-After"] == "9"


@pytest.mark.parametrize("server", ["api", "storage"])
async def test_throttled_sends_each_retry_after_format(probe: Probe, server: str) -> None:
    url = await probe.signed()

    async def retry_after(**rule: Any) -> str | None:
        probe.meet("throttled", **rule)
        response = await (send_request(url) if server == "storage" else probe.jobs())
        assert response.status == 429
        return response.headers.get("Retry-After")

    now = datetime.now(UTC)
    assert await retry_after(retry_after=4) == "4"
    assert await retry_after(retry_after="none") is None
    assert int(await retry_after(retry_after="huge") or 0) > 86_400
    later = parsedate_to_datetime(await retry_after(retry_after="date", seconds=60) or "")
    assert 50 < (later - now).total_seconds() < 120
    assert parsedate_to_datetime(await retry_after(retry_after="past") or "") < now


async def test_unauthorized_and_revoke_tokens_return_401(probe: Probe) -> None:
    probe.meet("unauthorized", nth=2)
    assert [(await probe.jobs()).status for _ in range(3)] == [200, 401, 200]
    probe.meet("revoke_tokens", nth=1)
    assert [(await probe.jobs()).status for _ in range(2)] == [401, 401]


async def test_expire_urls_expires_all_signed_urls(probe: Probe) -> None:
    url = await probe.signed()
    probe.meet("expire_urls", nth=2)
    assert [(await send_request(url)).status for _ in range(3)] == [200, 400, 400]


async def test_faults_apply_to_the_token_endpoint(probe: Probe) -> None:
    probe.meet("status", status=500, endpoint="token")
    with pytest.raises(KeyError):
        await probe.prepare()
    assert probe.simulator.requests[-1].status == 500


async def test_json_faults_truncate_or_change_types(probe: Probe) -> None:
    probe.meet("truncated_json", at_fraction=0.5)
    response = await probe.jobs()
    assert response.complete
    with pytest.raises(json.JSONDecodeError):
        response.json()
    probe.meet("wrong_type", field="data.0.id", value=[7])
    assert (await probe.jobs()).json()["data"][0]["id"] == [7]
    probe.meet("wrong_type")
    assert (await probe.jobs()).json() == {"data": "surprise", "error": None}
    probe.meet("wrong_type", field="data.x.y")
    assert len((await probe.jobs()).json()["data"]) == 16


async def test_error_in_200_returns_an_error_document(probe: Probe) -> None:
    probe.meet("error_in_200", code="BROKEN")
    response = await probe.jobs()
    assert response.status == 200
    assert response.json()["data"] is None
    assert response.json()["error"]["code"] == "BROKEN"


async def test_gzip_transcoded_depends_on_accept_encoding(probe: Probe) -> None:
    probe.meet("gzip_transcoded")
    stored = await probe.archive(**{"Accept-Encoding": "gzip", "Range": "bytes=9-"})
    assert (stored.status, stored.body, stored.headers["Content-Encoding"]) == (
        206,
        probe.original[9:],
        "gzip",
    )
    plain = await probe.archive(**{"Accept-Encoding": "identity", "Range": "bytes=9-"})
    assert plain.status == 200
    assert "Content-Length" not in plain.headers
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["x-goog-stored-content-encoding"] == "gzip"
    assert plain.headers["x-goog-stored-content-length"] == str(len(probe.original))
    assert unchunked(plain.body) == gzip.decompress(probe.original)


def unchunked(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        out, body = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return out


async def test_repeat_pages_overlaps_pages_without_end() -> None:
    async with probing(page_size=5) as probe:
        probe.meet("repeat_pages", overlap=2)
        pages = [(await probe.jobs(f"page={page}")).json()["data"] for page in range(12)]
        assert all(pages)
        assert pages[0][3:] == pages[1][:2]
        assert len({job["id"] for page in pages for job in page}) == 16
        probe.meet("repeat_pages", overlap=2, forever=False)
        assert (await probe.jobs("page=6")).json()["data"] == []


async def test_delete_jobs_shifts_the_later_jobs() -> None:
    async with probing(page_size=5) as probe:
        before = [job["id"] for job in (await probe.jobs("page=0&sort=createdAt,asc")).json()["data"]]
        probe.meet("delete_jobs", count=2, limit=1)
        after = [job["id"] for job in (await probe.jobs("page=0&sort=createdAt,asc")).json()["data"]]
        assert after[:3] == before[2:]
        assert len(after) == 5


async def test_huge_list_is_valid_json(probe: Probe) -> None:
    probe.meet("huge_list", size_bytes=1_000_000)
    response = await probe.quicklooks()
    assert len(response.body) == 1_000_000
    assert len(response.json()["data"]) > 40_000


async def test_hostile_names_are_listed_and_can_be_downloaded(probe: Probe) -> None:
    probe.meet("hostile_names")
    names = (await probe.quicklooks()).json()["data"]
    assert tuple(names) == HOSTILE_NAMES
    for name in names:
        path = f"/jobs/{probe.job.id}/tasks/{probe.job.tasks[0].id}/outputs/quicklooks/"
        response = await probe.api(path + quote(name, safe=""))
        assert response.body.startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        ({"fault": "no_hash"}, "x-goog-hash"),
        ({"fault": "no_etag"}, "ETag"),
        ({"fault": "no_length", "server": "storage"}, "Content-Length"),
        ({"fault": "without", "headers": ["accept-ranges"], "server": "storage"}, "Accept-Ranges"),
    ],
)
async def test_header_faults_omit_headers(probe: Probe, rule: dict[str, Any], gone: str) -> None:
    probe.simulator.faults = Faults.from_rules(rule)
    response = await probe.archive()
    assert response.status == 200
    assert gone not in response.headers
    assert response.complete


async def test_redirect_returns_the_location(probe: Probe) -> None:
    probe.meet("redirect", location="http://elsewhere.example/x", server="storage")
    response = await probe.archive()
    assert (response.status, response.headers["Location"]) == (302, "http://elsewhere.example/x")


async def test_body_faults_do_not_change_error_replies(probe: Probe) -> None:
    probe.meet("cut", server="storage", at_byte=3)
    url = await probe.signed()
    assert (await send_request(url + "x")).complete


def test_each_fault_is_tested() -> None:
    from pathlib import Path

    environment = Path(__file__)
    text = environment.read_text() + environment.with_name("test_simulator_storage_faults.py").read_text()
    assert [name for name in FAULTS if f'"{name}"' not in text] == []
