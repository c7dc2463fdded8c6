"""Test the simulator through its HTTP interface."""

import asyncio
import base64
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import google_crc32c
import pytest
from PIL import Image
from rasterio.io import MemoryFile
from yarl import URL

from bulkdl.simulator import ExpectedOutput, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.sources.up42_jobs.models import Kind


class Client:
    """A minimal client that follows the walkthrough in the UP42 documentation."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator, self.http = simulator, http
        self.tokens: dict[str, str] = {}

    async def log_in(self) -> None:
        for project in self.simulator.projects:
            self.tokens[project.id] = await self.token(project.id, project.api_key)

    async def token(self, project_id: str, key: str) -> str:
        basic = base64.b64encode(f"{project_id}:{key}".encode()).decode()
        async with self.http.post(
            f"{self.simulator.api_url}/oauth/token",
            data={"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {basic}"},
        ) as response:
            assert response.status == 200
            document = await response.json()
        assert document == {
            "data": {"accessToken": document["access_token"]},
            "access_token": document["access_token"],
            "token_type": "bearer",
        }
        return str(document["access_token"])

    async def get(self, project_id: str, path: str, **more: Any) -> tuple[int, bytes]:
        url = URL(f"{self.simulator.api_url}/projects/{project_id}{path}", encoded=True)
        headers = {"Authorization": f"Bearer {self.tokens[project_id]}"}
        async with self.http.get(url, headers=headers, **more) as response:
            return response.status, await response.read()

    async def data(self, project_id: str, path: str, **more: Any) -> Any:
        status, body = await self.get(project_id, path, **more)
        assert status == 200, body
        document = json.loads(body)
        assert document["error"] is None
        return document["data"]

    async def read(self, url: str, **headers: str) -> tuple[int, aiohttp.typedefs.LooseHeaders, bytes]:
        async with self.http.get(URL(url, encoded=True), headers=headers) as response:
            return response.status, response.headers, await response.read()

    async def output(self, expected: ExpectedOutput) -> bytes:
        base = f"/jobs/{expected.job_id}" + (f"/tasks/{expected.task_id}" if expected.task_id else "")
        if expected.kind == Kind.ARCHIVE:
            signed = await self.data(expected.project_id, f"{base}/downloads/results")
            status, _, body = await self.read(signed["url"])
        elif expected.kind == Kind.GEOJSON:
            status, body = await self.get(expected.project_id, f"{base}/outputs/data-json")
        else:
            name = quote(expected.name, safe="").replace(".", "%2E")
            status, body = await self.get(expected.project_id, f"{base}/outputs/quicklooks/{name}")
        assert status == 200
        return body


@asynccontextmanager
async def connected(account: SimulatedAccount, **options: Any) -> AsyncIterator[Client]:
    async with (
        Simulator(account, SimulatorOptions(**options)) as simulator,
        aiohttp.ClientSession(auto_decompress=False) as http,
    ):
        client = Client(simulator, http)
        await client.log_in()
        yield client


async def signed_url(client: Client, level: str = "job") -> str:
    job = client.simulator.account.job(0, 0)
    base = f"/jobs/{job.id}" + (f"/tasks/{job.tasks[-1].id}" if level == "task" else "")
    data = await client.data(job.project_id, f"{base}/downloads/results")
    return str(data["url"])


async def test_simulator_serves_every_expected_output_byte_for_byte() -> None:
    async with connected(SimulatedAccount(jobs=36, archive_bytes=(0, 50_000), hostile_names=True)) as client:
        kinds = set()
        for expected in client.simulator.expected_outputs():
            assert await client.output(expected) == expected.read()
            kinds.add((expected.kind, expected.task_id is None))
        assert len(kinds) == 5
        for skip in client.simulator.expected_skips():
            if skip.kind:
                base = f"/jobs/{skip.job_id}" + (f"/tasks/{skip.task_id}" if skip.task_id else "")
                assert (await client.get(skip.project_id, f"{base}/downloads/results"))[0] == 404
        assert not any(
            "Authorization" in seen.headers for seen in client.simulator.requests if seen.server == "storage"
        )


async def test_archives_contain_data_json_and_rasters_at_the_footprints() -> None:
    forms = set()
    async with connected(SimulatedAccount(jobs=20, projects=1)) as client:
        for job in client.simulator.account.iter_jobs():
            for task in job.tasks:
                if task.archive_bytes is None:
                    continue
                url = (
                    await client.data(job.project_id, f"/jobs/{job.id}/tasks/{task.id}/downloads/results")
                )["url"]
                members = unpacked((await client.read(url))[2])
                forms.add(task.archive_format)
                _, collection = await client.get(
                    job.project_id, f"/jobs/{job.id}/tasks/{task.id}/outputs/data-json"
                )
                assert members.pop("output/data.json") == collection
                for feature in json.loads(collection)["features"]:
                    raster = members.pop(f"output/{feature['properties']['up42.data_path']}")
                    with MemoryFile(raster) as memory, memory.open() as dataset:
                        assert dataset.crs.to_epsg() == 4326
                        assert list(dataset.bounds) == pytest.approx(feature["bbox"], abs=1e-9)
                        assert dataset.read().size == dataset.width * dataset.height
                assert not members
    assert forms == {"tgz", "tar", "zip"}


def unpacked(body: bytes) -> dict[str, bytes]:
    if body.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar if member.isfile()]
        return {name: file.read() for name, file in files if file}


async def test_quicklooks_are_valid_images_of_data_tasks_only() -> None:
    async with connected(SimulatedAccount(jobs=16, quicklook_bytes=30_000)) as client:
        job = client.simulator.account.job(0, 4)
        lists = [
            await client.data(job.project_id, f"/jobs/{job.id}/tasks/{task.id}/outputs/quicklooks/", json={})
            for task in job.tasks
        ]
        assert lists[0]
        assert lists[1:] == [[], [], []]
        path = f"/jobs/{job.id}/tasks/{job.tasks[0].id}/outputs/quicklooks/"
        status, body = await client.get(job.project_id, path + lists[0][0])
        assert status == 200
        assert len(body) >= 30_000
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            assert image.size == (512, 512)
        assert (await client.get(job.project_id, path + "absent.jpg"))[0] == 404


async def test_job_list_ends_with_an_empty_page_and_is_ordered() -> None:
    async with connected(SimulatedAccount(jobs=25, projects=1), page_size=10) as client:
        project = client.simulator.projects[0].id
        pages = [await client.data(project, f"/jobs?page={page}&sort=createdAt,asc") for page in range(4)]
        assert [len(page) for page in pages] == [10, 10, 5, 0]
        timestamps = [job["createdAt"] for page in pages for job in page]
        assert timestamps == sorted(timestamps)
        assert len({job["id"] for page in pages for job in page}) == 25
        newest = await client.data(project, "/jobs/")
        assert newest[0]["createdAt"] == timestamps[-1]


async def test_job_result_is_the_object_of_the_last_task() -> None:
    async with connected(SimulatedAccount()) as client:
        job, task = await signed_url(client), await signed_url(client, "task")
        assert urlsplit(job).path == urlsplit(task).path


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("", 404, 404),
        ("/jobs/{other}", 404, 404),
        ("/jobs/nonsense", 404, 404),
        ("/elsewhere", 404, "RESOURCE_NOT_FOUND"),
    ],
)
async def test_missing_resource_is_404_with_an_error_document(
    path: str, status: int, code: int | str
) -> None:
    async with connected(SimulatedAccount()) as client:
        mine, other = client.simulator.account.projects, client.simulator.account.job(1, 0)
        assert mine == 2
        project = client.simulator.projects[0].id
        if not path:
            client.tokens["00000000-0000-4000-8000-000000000000"] = client.tokens[project]
            project = "00000000-0000-4000-8000-000000000000"
        got, body = await client.get(project, path.format(other=other.id))
        assert (got, json.loads(body)["error"]["code"]) == (status, code)


async def test_token_is_valid_for_its_own_project_only() -> None:
    async with connected(SimulatedAccount()) as client:
        first, second = client.simulator.projects
        client.tokens[second.id] = client.tokens[first.id]
        assert (await client.get(second.id, "/jobs"))[0] == 403


async def test_missing_forged_expired_or_revoked_token_is_rejected() -> None:
    async with connected(SimulatedAccount(), token_lifetime_s=0.0) as client:
        project = client.simulator.projects[0].id
        status, body = await client.get(project, "/jobs")
        assert status == 401
        assert "ACCESS_TOKEN_EXPIRED: JWT expired at" in json.loads(body)["error"]["message"]
    async with connected(SimulatedAccount()) as client:
        project = client.simulator.projects[0].id
        good = client.tokens[project]
        assert (await client.get(project, "/jobs"))[0] == 200
        for bad in (good[:-3] + "abc", "nonsense", ""):
            client.tokens[project] = bad
            status, body = await client.get(project, "/jobs")
            assert (status, json.loads(body)["error"]["code"]) == (401, "UNAUTHORIZED")
        client.tokens[project] = good
        client.simulator.revoke_tokens()
        assert (await client.get(project, "/jobs"))[0] == 401


async def test_token_endpoint_requires_a_grant_and_valid_credentials() -> None:
    async with connected(SimulatedAccount(), username="u", password="p") as client:
        url = f"{client.simulator.api_url}/oauth/token"
        for form, status in (
            ({}, 415),
            ({"grant_type": "client_credentials"}, 401),
            ({"grant_type": "password", "username": "u", "password": "wrong"}, 401),
            ({"grant_type": "password", "username": "u", "password": "p"}, 200),
        ):
            async with client.http.post(url, data=form) as response:
                assert response.status == status
                if status == 200:
                    token = (await response.json())["access_token"]
        for project in client.simulator.projects:
            client.tokens[project.id] = token
            assert (await client.get(project.id, "/jobs"))[0] == 200
        async with client.http.get(
            f"{client.simulator.api_url}/users/me", headers={"Authorization": f"Bearer {token}"}
        ) as response:
            assert (await response.json())["data"]["id"] == client.simulator.account.user_id


async def test_key_of_another_project_is_rejected() -> None:
    async with connected(SimulatedAccount()) as client:
        first, second = client.simulator.projects
        url = f"{client.simulator.api_url}/oauth/token"
        for pair in (f"{first.id}:{second.api_key}", f"{first.id}:", f"nobody:{first.api_key}", "\xff"):
            basic = base64.b64encode(pair.encode("latin-1")).decode()
            form = {"grant_type": "client_credentials"}
            async with client.http.post(
                url, data=form, headers={"Authorization": f"Basic {basic}"}
            ) as response:
                assert (response.status, await response.read()) == (401, b"")


async def test_token_is_a_jwt_with_its_lifetime() -> None:
    async with connected(SimulatedAccount(), token_lifetime_s=77) as client:
        _, claims, _ = next(iter(client.tokens.values())).split(".")
        payload = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert payload["exp"] - payload["iat"] == 77


async def test_signed_url_with_changed_escapes_is_rejected() -> None:
    async with connected(SimulatedAccount()) as client:
        url = await signed_url(client)
        parts = urlsplit(url)
        assert list(parse_qs(parts.query)) == ["GoogleAccessId", "Expires", "Signature"]
        assert "%2F" in parts.query
        assert "%3D" in parts.query
        assert parts.path.endswith("/output.tgz")
        assert (await client.read(url))[0] == 200
        async with client.http.get(url) as response:  # yarl unescapes %2F here
            assert response.status == 403
            assert b"<Code>SignatureDoesNotMatch</Code>" in await response.read()
        status, _, body = await client.read(url.partition("?")[0])
        assert (status, b"AccessDenied" in body) == (403, True)


async def test_expired_url_is_400_with_an_xml_error() -> None:
    async with connected(SimulatedAccount(), url_lifetime_s=-2) as client:
        status, headers, body = await client.read(await signed_url(client))
        assert status == 400
        assert headers["Content-Type"] == "application/xml; charset=UTF-8"
        assert b"<Code>ExpiredToken</Code>" in body
    async with connected(SimulatedAccount()) as client:
        url = await signed_url(client)
        client.simulator.expire_urls()
        assert (await client.read(url))[0] == 400
        assert (await client.read(await signed_url(client)))[0] == 200


async def test_storage_sends_checksums_lengths_and_validators() -> None:
    async with connected(SimulatedAccount()) as client:
        _, headers, body = await client.read(await signed_url(client))
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        crc = google_crc32c.Checksum(body).digest()
        assert headers.getall("x-goog-hash") == [
            f"crc32c={base64.b64encode(crc).decode()}",
            f"md5={base64.b64encode(md5).decode()}",
        ]
        assert headers["ETag"] == f'"{md5.hex()}"'
        assert headers["x-goog-stored-content-length"] == headers["Content-Length"] == str(len(body))
        assert headers["x-goog-stored-content-encoding"] == "identity"
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["x-goog-generation"].isdigit()


@pytest.mark.parametrize(
    ("requested", "status", "span"),
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=100-", 206, (100, None)),
        ("bytes=5-99999999999", 206, (5, None)),
        ("bytes=-7", 206, (-7, None)),
        ("bytes=9-5", 200, (0, None)),
        ("bytes=1-2,5-6", 200, (0, None)),
        ("lines=1-2", 200, (0, None)),
    ],
)
async def test_range_request_returns_the_requested_bytes(
    requested: str, status: int, span: tuple[int, int | None]
) -> None:
    async with connected(SimulatedAccount()) as client:
        url = await signed_url(client)
        whole = (await client.read(url))[2]
        got, headers, body = await client.read(url, Range=requested)
        assert (got, body) == (status, whole[span[0] : span[1]])
        if status == 206:
            start = span[0] % len(whole)
            assert headers["Content-Range"] == f"bytes {start}-{start + len(body) - 1}/{len(whole)}"


async def test_range_beyond_the_end_is_416_with_the_size() -> None:
    async with connected(SimulatedAccount()) as client:
        url = await signed_url(client)
        size = len((await client.read(url))[2])
        status, headers, _ = await client.read(url, Range=f"bytes={size}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")


async def test_if_range_and_if_match_compare_the_version() -> None:
    async with connected(SimulatedAccount()) as client:
        url = await signed_url(client)
        _, headers, whole = await client.read(url)
        for validator in (headers["ETag"], headers["Last-Modified"]):
            assert (await client.read(url, **{"Range": "bytes=9-", "If-Range": validator}))[2] == whole[9:]
        for validator in ('"other"', f"W/{headers['ETag']}", "Mon, 07 Jan 2010 09:31:17 GMT", "rubbish"):
            assert (await client.read(url, **{"Range": "bytes=9-", "If-Range": validator}))[0] == 200
        assert (await client.read(url, **{"If-Match": '"other"'}))[0] == 412
        client.simulator.replace_object(urlsplit(url).path)
        status, changed, body = await client.read(url, **{"Range": "bytes=9-", "If-Range": headers["ETag"]})
        assert (status, len(body)) == (200, len(whole))
        assert body != whole
        assert changed["ETag"] != headers["ETag"]
        assert changed["x-goog-generation"] != headers["x-goog-generation"]


async def test_authorization_header_is_rejected_by_strict_storage_only() -> None:
    for strict, status in ((False, 200), (True, 400)):
        async with connected(SimulatedAccount(), strict_storage_auth=strict) as client:
            url = await signed_url(client)
            assert (await client.read(url, Authorization="Bearer x"))[0] == status
            assert client.simulator.requests[-1].headers["Authorization"] == "Bearer x"


async def test_request_record_has_sent_bytes_and_no_signature() -> None:
    async with connected(SimulatedAccount()) as client:
        url = await signed_url(client)
        _, _, body = await client.read(url, Range="bytes=0-99")
        seen = client.simulator.requests[-1]
        assert (
            (seen.server, seen.status, seen.sent_bytes)
            == ("storage", 206, 100)
            == (*("storage", 206), len(body))
        )
        assert seen.query.endswith("Signature=-")
        assert seen.headers["Range"] == "bytes=0-99"
        assert [one.number for one in client.simulator.requests] == list(
            range(1, len(client.simulator.requests) + 1)
        )


async def test_evolve_finishes_jobs_and_adds_jobs_at_the_end() -> None:
    async with connected(SimulatedAccount(jobs=28)) as client:
        before = len(list(client.simulator.expected_outputs()))
        client.simulator.evolve(all_finished=True)
        assert len(list(client.simulator.expected_outputs())) > before
        job = client.simulator.account.job(0, 6)
        status = (await client.data(job.project_id, f"/jobs/{job.id}"))["status"]
        assert status == "SUCCEEDED"
        client.simulator.evolve(jobs=40)
        assert len(await client.data(job.project_id, "/jobs")) == 20


async def test_account_of_a_million_jobs_starts_without_delay() -> None:
    account = SimulatedAccount(projects=1, jobs=1_000_000, archive_bytes=3 << 30)
    async with connected(account, page_size=3) as client:
        project = client.simulator.projects[0].id
        page = await client.data(project, "/jobs?page=250000&sort=createdAt,asc")
        assert page[0]["id"] == account.job(0, 750_000).id
    last = next(expected for expected in client.simulator.expected_outputs() if expected.kind == Kind.ARCHIVE)
    assert last.size_bytes == pytest.approx(3 << 30, rel=0.01)


async def test_parallel_requests_share_a_connection_pool() -> None:
    async with connected(SimulatedAccount(jobs=8)) as client:
        outputs = list(client.simulator.expected_outputs())
        bodies = await asyncio.gather(*(client.output(expected) for expected in outputs))
        assert bodies == [expected.read() for expected in outputs]
