"""Test the faults on the endpoints of today's API."""

import json
from typing import Any

import aiohttp
import pytest

from bulkdl.simulator import Faults
from bulkdl.simulator.routes import TODAY_ENDPOINTS
from bulkdl.simulator.scenarios import HOSTILE_NAMES
from support.storage_client import LOGIN, STAC, USERINFO, StorageClient, storage_client


async def paths(client: StorageClient) -> dict[str, tuple[str, str]]:
    """Return a valid request (method, path) for each endpoint."""
    item = (await client.search({"limit": 1}, max_pages=1))[0]
    asset = (await client.get("/v2/assets"))["content"][0]["id"]
    order = (await client.get("/v2/orders"))["content"][0]["id"]
    job = (await client.get("/v2/processing/jobs"))["jobs"][0]["jobID"]
    collection = f"{STAC}/collections/{item['collection']}"
    webhooks = f"/workspaces/{client.simulator.account.user_id}/webhooks"
    return {
        "login": ("POST", LOGIN),
        "userinfo": ("GET", USERINFO),
        "assets": ("GET", "/v2/assets"),
        "asset": ("GET", f"/v2/assets/{asset}/metadata"),
        "download_url": ("POST", f"/v2/assets/{asset}/download-url"),
        "catalog": ("GET", f"{STAC}/"),
        "queryables": ("GET", f"{STAC}/queryables"),
        "collections": ("GET", f"{STAC}/collections"),
        "collection": ("GET", collection),
        "items": ("GET", f"{collection}/items"),
        "item": ("GET", f"{collection}/items/{item['id']}"),
        "search": ("POST", f"{STAC}/search"),
        "processing_jobs": ("GET", "/v2/processing/jobs"),
        "processing_job": ("GET", f"/v2/processing/jobs/{job}"),
        "orders": ("GET", "/v2/orders"),
        "order": ("GET", f"/v2/orders/{order}"),
        "webhook_events": ("GET", "/webhooks/events"),
        "webhooks": ("GET", webhooks),
        "webhook": ("GET", f"{webhooks}/x"),
        "webhook_tests": ("POST", f"{webhooks}/x/tests"),
    }


def error_keys(endpoint: str) -> set[str]:
    if endpoint == "login":
        return {"error", "error_description"}
    if endpoint.startswith("webhook"):
        return {"data", "error"}
    stac = {"catalog", "queryables", "collections", "collection", "items", "item", "search"}
    return {"code", "description"} if endpoint in stac else {"title", "status", "detail"}


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"fault": "status", "status": 503}, 503),
        ({"fault": "throttled", "retry_after": 7}, 429),
        ({"fault": "unauthorized"}, 401),
        ({"fault": "error_in_200"}, 200),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
async def test_error_faults_have_the_format_of_each_endpoint(rule: dict[str, Any], status: int) -> None:
    async with storage_client() as client:
        requests = await paths(client)
        assert set(requests) == set(TODAY_ENDPOINTS)
        for endpoint, (method, path) in requests.items():
            client.simulator.faults = Faults.from_rules({**rule, "endpoint": endpoint})
            if rule["fault"] == "error_in_200" and endpoint in {"webhook", "webhook_tests", "login"}:
                continue  # the requests do not succeed, so the fault does not apply
            actual, document = await client.send(method, path, json={} if method == "POST" else None)
            assert (endpoint, actual) == (endpoint, status)
            assert set(document) == error_keys(endpoint)


async def test_unauthorized_does_not_apply_to_the_login_by_default() -> None:
    async with storage_client(faults=Faults.from_rules({"fault": "unauthorized"})) as client:
        assert (await client.log_in())[0] == 200
        assert (await client.send("GET", "/v2/assets"))[0] == 401


async def test_throttled_sends_retry_after() -> None:
    async with storage_client() as client:
        client.simulator.faults = Faults.from_rules({"fault": "throttled", "retry_after": 7})
        url = f"{client.simulator.api_url}/v2/assets"
        async with client.http.get(url, headers={"Authorization": f"Bearer {client.token}"}) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize("fault", ["cut", "reset", "truncated_json"])
async def test_body_faults_damage_the_documents(fault: str) -> None:
    async with storage_client() as client:
        requests = await paths(client)
        for endpoint in ("login", "assets", "collections", "items", "search", "download_url", "orders"):
            client.simulator.faults = Faults.from_rules({"fault": fault, "endpoint": endpoint})
            send = client.log_in() if endpoint == "login" else client.send(*requests[endpoint], json={})
            with pytest.raises((aiohttp.ClientError, json.JSONDecodeError)):
                await send


async def test_wrong_type_changes_a_field() -> None:
    rule = {"fault": "wrong_type", "endpoint": "assets", "field": "content.0.size", "value": "big"}
    async with storage_client(faults=Faults.from_rules(rule)) as client:
        assert (await client.get("/v2/assets"))["content"][0]["size"] == "big"


@pytest.mark.parametrize(
    "endpoint", ["assets", "orders", "collections", "items", "search", "processing_jobs"]
)
async def test_huge_list_has_the_key_of_the_endpoint(endpoint: str) -> None:
    async with storage_client() as client:
        method, path = (await paths(client))[endpoint]
        rule = {"fault": "huge_list", "endpoint": endpoint, "size_bytes": 50_000}
        client.simulator.faults = Faults.from_rules(rule)
        url = client.simulator.api_url + path
        headers = {"Authorization": f"Bearer {client.token}"}
        async with client.http.request(method, url, headers=headers, json={}) as response:
            body = await response.read()
        assert len(body) == 50_000
        key = {"assets": "content", "orders": "content", "collections": "collections"}.get(
            endpoint, "jobs" if endpoint == "processing_jobs" else "features"
        )
        assert len(json.loads(body)[key]) > 1_000


async def test_hostile_names_replaces_names_and_keys() -> None:
    rules = Faults.from_rules(
        *({"fault": "hostile_names", "endpoint": name} for name in ("assets", "collections", "search"))
    )
    async with storage_client(faults=rules) as client:
        names = [entry["name"] for entry in await client.pages("/v2/assets", "content")]
        assert set(names) == set(HOSTILE_NAMES)
        collections = await client.follow(f"{STAC}/collections", "collections")
        assert {key for entry in collections for key in entry["assets"]} == {HOSTILE_NAMES[0]}
        items = await client.search({})
        assert {key for item in items for key in item["assets"]} >= set(HOSTILE_NAMES)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v2/assets?size=5", "content"),
        ("/v2/orders?size=5", "content"),
        (f"{STAC}/collections?limit=5", "collections"),
        (f"{STAC}/search?limit=5", "features"),
        ("/v2/processing/jobs?limit=3", "jobs"),
    ],
)
async def test_repeat_pages_overlaps_the_pages(path: str, key: str) -> None:
    def identity(entry: Any) -> str:
        return str(entry.get("id") or entry["jobID"])

    async with storage_client() as client:

        async def read(first: bool) -> list[str]:
            document = await client.get(path)
            if not first:
                links = document.get("links")
                if links is None:
                    document = await client.get(f"{path}&page=1")
                else:
                    href = next(link["href"] for link in links if link["rel"] == "next")
                    document = await client.get(href)
            return [identity(entry) for entry in document[key]]

        client.simulator.faults = Faults.from_rules(
            {"fault": "repeat_pages", "overlap": 2, "forever": False, "endpoint": list(TODAY_ENDPOINTS)}
        )
        one, two = await read(first=True), await read(first=False)
        assert one[-2:] == two[:2]
        assert len(set(one) & set(two)) == 2


async def test_repeat_pages_forever_starts_again() -> None:
    rule = {"fault": "repeat_pages", "overlap": 0, "endpoint": list(TODAY_ENDPOINTS)}
    async with storage_client(faults=Faults.from_rules(rule)) as client:
        for path, key, count in (
            (f"{STAC}/collections", "collections", 23),
            (f"{STAC}/search", "features", 27),
        ):
            entries = await client.follow(path, key, max_pages=8)
            assert len({entry["id"] for entry in entries}) == count < len(entries)
        features = await client.search({}, max_pages=8)
        assert len({item["id"] for item in features}) == 27 < len(features)
        page = await client.get("/v2/assets?page=2&size=20")
        assert page["content"]
        assert not page["last"]
        jobs = await client.follow("/v2/processing/jobs?limit=2", "jobs", max_pages=5)
        assert len(jobs) > len({job["jobID"] for job in jobs}) == 5


async def test_next_link_points_to_another_origin() -> None:
    rule = {"fault": "next_link", "origin": "http://other.example:8080"}
    async with storage_client(faults=Faults.from_rules(rule)) as client:
        for method, path in (("GET", f"{STAC}/collections"), ("POST", f"{STAC}/search")):
            _, page = await client.send(method, path, json={} if method == "POST" else None)
            href = next(link["href"] for link in page["links"] if link["rel"] == "next")
            assert href.startswith(f"http://other.example:8080{STAC}/")


async def test_foreign_hrefs_points_all_assets_to_another_origin() -> None:
    rule = {"fault": "foreign_hrefs", "origin": "https://other.example"}
    async with storage_client(faults=Faults.from_rules(rule)) as client:
        entries = await client.follow(f"{STAC}/collections", "collections") + await client.search({})
        hrefs = [asset["href"] for entry in entries for asset in entry["assets"].values()]
        assert len(hrefs) > 100
        assert all(href.startswith("https://other.example/") for href in hrefs)


async def test_delete_collections_removes_the_oldest() -> None:
    async with storage_client() as client:
        before = await client.follow(f"{STAC}/collections", "collections")
        client.simulator.faults = Faults.from_rules(
            {"fault": "delete_collections", "count": 2, "endpoint": "collections", "limit": 1}
        )
        after = await client.follow(f"{STAC}/collections", "collections")
        assert after == before[:-2]
        # The oldest delivery is the input of all processing jobs.
        jobs = await client.follow("/v2/processing/jobs", "jobs")
        assert jobs
        assert not any("item" in job["definition"]["inputs"] for job in jobs)


async def test_add_assets_shifts_the_pages() -> None:
    async with storage_client() as client:
        before = [entry["id"] for entry in await client.pages("/v2/assets?size=10", "content")]
        client.simulator.faults = Faults.from_rules(
            {"fault": "add_assets", "count": 3, "endpoint": "assets", "per": "all", "nth": 2}
        )
        after = [entry["id"] for entry in await client.pages("/v2/assets?size=10", "content")]
        assert after == [*before[:10], *before[7:]], "the second page repeats the end of the first"


async def test_settle_finishes_what_is_in_progress() -> None:
    async with storage_client(faults=Faults.from_rules({"fault": "settle"})) as client:
        entries = await client.pages("/v2/assets", "content")
        assert "IN_PROGRESS" not in {entry["geospatialMetadataExtractionStatus"] for entry in entries}


async def test_storage_faults_apply_to_assets() -> None:
    async with storage_client() as client:
        file = next(file for file in client.simulator.expected_files() if file.size_bytes > 2_000)
        client.simulator.faults = Faults.from_rules(
            {"fault": "flip", "server": "storage", "nth": 1},
            {"fault": "url_expired", "server": "storage", "nth": 2},
            {"fault": "replaced", "server": "storage", "nth": 3, "longer_by": 10},
        )
        url, before = await client.sign(file.asset_id), file.read()
        status, _, body = await client.read(url)
        assert (status, len(body)) == (200, len(before))
        assert body != before
        assert (await client.read(url))[0] == 400
        assert (await client.read(url))[2] == file.read() != before


async def test_revoke_tokens_applies_to_today() -> None:
    rule = {"fault": "revoke_tokens", "endpoint": "assets", "nth": 1, "per": "all"}
    async with storage_client(faults=Faults.from_rules(rule)) as client:
        assert (await client.send("GET", "/v2/assets"))[0] == 401
        await client.log_in()
        assert (await client.send("GET", "/v2/assets"))[0] == 200
