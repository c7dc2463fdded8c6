"""Test today's API of the simulator through its HTTP interface."""

import base64
import io
import json
import tarfile
import zipfile
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import google_crc32c
import pytest
from PIL import Image
from rasterio.io import MemoryFile

from bulkdl.simulator import SimulatedAccount, StorageOptions
from bulkdl.simulator.scenarios import HOSTILE_NAMES
from support.storage_client import LOGIN, STAC, USERINFO, StorageClient, storage_client

SMALL = SimulatedAccount(storage=StorageOptions(raster_bytes=(0, 20_000)))


def ids_of(entries: list[Any]) -> list[str]:
    return [str(entry["id"]) for entry in entries]


def asset_id_of(href: str) -> str:
    return urlsplit(href).path.removesuffix("/download-url").rpartition("/")[2]


def listed_places(
    originals: list[Any], collections: list[Any], items: list[Any], base_url: str
) -> set[tuple[str | None, str | None, str, str]]:
    """Return (collection, item, key, asset ID) of everything that the lists offer on this host."""
    places: set[tuple[str | None, str | None, str, str]] = set()
    of_asset = {entry["up42-system:asset_id"]: entry["id"] for entry in collections}
    listed = set()
    for entry in collections:
        for key, asset in entry["assets"].items():
            places.add((entry["id"], None, key, asset_id_of(asset["href"])))
            listed.add(asset_id_of(asset["href"]))
    for entry in originals:
        if entry["id"] not in listed:
            places.add((of_asset.get(entry["id"]), None, entry["name"] or "", entry["id"]))
    for entry in items:
        for key, asset in entry["assets"].items():
            if asset["href"].startswith(base_url):
                places.add((entry["collection"], entry["id"], key, asset_id_of(asset["href"])))
    return places


# login


@pytest.mark.parametrize("client_id", ["up42-api", "up42-sdk"])
async def test_login_returns_tokens_as_keycloak(client_id: str) -> None:
    async with storage_client(token_lifetime_s=77) as client:
        status, document = await client.log_in(client_id=client_id)
        assert status == 200
        assert list(document) == [
            "access_token", "expires_in", "refresh_expires_in", "refresh_token", "token_type",
            "not-before-policy", "session_state", "scope",
        ]  # fmt: skip
        assert document["expires_in"] == 77
        assert document["token_type"] == "Bearer"
        info = await client.get(USERINFO)
        assert info["sub"] == client.simulator.account.user_id
        assert info["preferred_username"] == "someone@example.com"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"password": "wrong"}, 401, "invalid_grant"),
        ({"username": "other"}, 401, "invalid_grant"),
        ({"password": ""}, 401, "invalid_grant"),
        ({"client_id": "other"}, 401, "invalid_client"),
        ({"client_id": ""}, 401, "invalid_client"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
    ],
)
async def test_login_invalid_form_returns_an_oauth_error(
    form: dict[str, str], status: int, error: str
) -> None:
    async with storage_client() as client:
        actual, document = await client.log_in(**form)
        assert (actual, document["error"]) == (status, error)
        assert set(document) == {"error", "error_description"}


async def test_login_refresh_token_returns_a_new_token_and_is_not_an_access_token() -> None:
    async with storage_client() as client:
        _, first = await client.log_in()
        client.token = first["refresh_token"]
        assert (await client.send("GET", USERINFO))[0] == 401
        status, second = await client.log_in(
            grant_type="refresh_token", refresh_token=first["refresh_token"], username="", password=""
        )
        assert status == 200
        assert second["access_token"] != first["access_token"]
        assert (await client.get(USERINFO))["sub"]


async def test_login_get_is_rejected() -> None:
    async with storage_client() as client:
        assert (await client.send("GET", LOGIN))[0] == 405


async def test_account_token_is_valid_for_both_apis_and_a_project_token_is_not() -> None:
    async with storage_client() as client:
        project = client.simulator.projects[0]
        assert (await client.get(f"/projects/{project.id}"))["data"]["id"] == project.id
        basic = base64.b64encode(f"{project.id}:{project.api_key}".encode()).decode()
        async with client.http.post(
            f"{client.simulator.api_url}/oauth/token",
            data={"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {basic}"},
        ) as response:
            client.token = (await response.json())["access_token"]
        assert (await client.send("GET", "/v2/assets"))[0] == 403


@pytest.mark.parametrize("token", ["", "a.b.c", "é.b.c"])
async def test_invalid_token_returns_401_with_the_error_of_the_endpoint(token: str) -> None:
    async with storage_client() as client:
        client.token = token
        status, problem = await client.send("GET", "/v2/assets")
        assert (status, problem["title"], problem["status"]) == (401, "Unauthorized", 401)
        status, error = await client.send("GET", f"{STAC}/collections")
        assert (status, list(error)) == (401, ["code", "description"])


async def test_revoked_token_is_rejected() -> None:
    async with storage_client() as client:
        client.simulator.revoke_tokens()
        assert (await client.send("GET", "/v2/assets"))[0] == 401
        await client.log_in()
        await client.get("/v2/assets")


# everything


async def test_storage_serves_every_expected_file_byte_for_byte() -> None:
    async with storage_client(SMALL, page_size=7) as client:
        originals = await client.pages("/v2/assets", "content")
        collections = await client.follow(f"{STAC}/collections", "collections")
        items = await client.search({})
        expected = list(client.simulator.expected_files())
        places = {
            (file.collection_id, place.item_id, place.key, file.asset_id)
            for file in expected
            for place in file.places
        }
        assert listed_places(originals, collections, items, client.simulator.api_url) == places
        assert len(places) > len(expected) > 150
        sizes = {entry["id"]: entry["size"] for entry in originals}
        assert set(sizes) == {file.asset_id for file in expected if file.is_original}
        for file in expected:
            status, headers, body = await client.read(await client.sign(file.asset_id))
            assert (status, body) == (200, file.read())
            assert sizes.get(file.asset_id, len(body)) == len(body) == int(headers["Content-Length"])
        assert not any(
            "Authorization" in seen.headers for seen in client.simulator.requests if seen.server == "storage"
        )


async def test_lists_contain_every_form_of_delivery() -> None:
    async with storage_client(SMALL) as client:
        originals = {entry["id"]: entry for entry in await client.pages("/v2/assets", "content")}
        collections = await client.follow(f"{STAC}/collections", "collections")
        items = await client.search({"limit": 100})
        in_stac = {entry["up42-system:asset_id"] for entry in collections}
        assert set(originals) - in_stac, "an original in no collection"
        assert None in in_stac, "a collection without an original"
        hosts = {urlsplit(asset["href"]).netloc for item in items for asset in item["assets"].values()}
        assert len(hosts) == 2, "an href on another host"
        assert {entry["geospatialMetadataExtractionStatus"] for entry in originals.values()} == {
            "NOT_PROCESSED", "IN_PROGRESS", "SUCCESSFUL", "FAILED",
        }  # fmt: skip
        assert {entry["source"] for entry in originals.values()} == {
            "ARCHIVE", "TASKING", "PROCESSING", "USER", None,
        }  # fmt: skip
        assert None in {entry["name"] for entry in originals.values()}
        assert any(set(item["assets"]) == set(HOSTILE_NAMES) for item in items)
        keys = [tuple(item["assets"]) for item in items]
        assert any("b01.tiff" in key and len(key) == 21 for key in keys)
        old = [item for item in items if "up42-order:id" not in item["properties"]]
        assert any("up42-system:source" not in item["properties"] for item in old)
        same = [
            item
            for item in items
            if set(item["assets"]) == {"data"}
            and asset_id_of(item["assets"]["data"]["href"]) == item["properties"]["up42-system:asset_id"]
        ]
        with_original = {entry["id"] for entry in collections if entry["assets"]}
        assert {item["collection"] in with_original for item in same} == {True, False}


async def test_files_have_the_content_of_their_media_type() -> None:
    heads = {
        "image/tiff": (b"II*\0", b"II+\0", b"\0\0\0\x0cjP  "),
        "application/zip": (b"PK\3\4",),
        "application/gzip": (b"\x1f\x8b",),
        "image/jpeg": (b"\xff\xd8\xff",),
        "image/png": (b"\x89PNG",),
        "application/json": (b"{",),
        "application/geo+json": (b"{",),
        "application/xml": (b"<?xml",),
        "application/pdf": (b"%PDF-",),
        "text/plain": (b"License",),
        "application/octet-stream": (b"BULK",),
    }
    seen = set()
    async with storage_client(SMALL) as client:
        for file in client.simulator.expected_files():
            _, headers, body = await client.read(await client.sign(file.asset_id))
            kind = headers["Content-Type"]
            assert body.startswith(heads[kind])
            seen.add(kind)
            if kind in {"image/jpeg", "image/png"}:
                Image.open(io.BytesIO(body)).load()
            elif "json" in kind:
                json.loads(body)
            elif kind == "application/zip":
                assert zipfile.ZipFile(io.BytesIO(body)).testzip() is None
            elif kind == "application/gzip":
                with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                    assert "output/scene.tif" in archive.getnames()
            elif body.startswith(b"II*\0"):
                with MemoryFile(body) as memory, memory.open() as dataset:
                    assert dataset.crs.to_epsg() == 4326
    assert seen == set(heads)


# /v2/assets


async def test_assets_page_has_the_fields_of_spring() -> None:
    async with storage_client() as client:
        page = await client.get("/v2/assets?size=5&page=2")
        assert (page["number"], page["size"], page["numberOfElements"]) == (2, 5, 5)
        assert (page["totalElements"], page["totalPages"], page["first"], page["last"]) == (
            24,
            5,
            False,
            False,
        )
        last = await client.get("/v2/assets?size=5&page=4")
        assert (len(last["content"]), last["last"]) == (4, True)
        beyond = await client.get("/v2/assets?size=5&page=9")
        assert (beyond["content"], beyond["empty"], beyond["last"]) == ([], True, True)
        assert (await client.get("/v2/assets"))["size"] == 20


async def test_assets_size_is_limited() -> None:
    async with storage_client(page_size=3) as client:
        assert (await client.get("/v2/assets?size=500"))["size"] == 3


@pytest.mark.parametrize("query", ["page=x", "size=-1", "createdAfter=yesterday", "createdBefore=2024-01-01"])
async def test_assets_invalid_query_returns_a_problem(query: str) -> None:
    async with storage_client() as client:
        status, problem = await client.send("GET", f"/v2/assets?{query}")
        assert (status, problem["status"], problem["title"]) == (400, 400, "Bad Request")


@pytest.mark.parametrize("key", ["createdAt", "name", "title", "size", "source", "collectionName"])
async def test_assets_are_sorted(key: str) -> None:
    async with storage_client(page_size=7) as client:
        up = await client.pages(f"/v2/assets?sort={key},asc", "content")
        down = await client.pages(f"/v2/assets?sort={key},desc", "content")
        values = [entry[key] or ("" if key != "size" else 0) for entry in up]
        assert values == sorted(values)
        assert ids_of(down) == ids_of(up)[::-1]
        assert len(set(ids_of(up))) == 24


async def test_assets_are_newest_first_by_default() -> None:
    async with storage_client() as client:
        stamps = [entry["createdAt"] for entry in await client.pages("/v2/assets", "content")]
        assert stamps == sorted(stamps, reverse=True)


async def test_assets_filters_select_matching_entries() -> None:
    async with storage_client() as client:
        entries = await client.pages("/v2/assets?sort=createdAt,asc", "content")

        async def select(query: str) -> list[str]:
            return ids_of(await client.pages(f"/v2/assets?sort=createdAt,asc&{query}", "content"))

        def where(keep: Any) -> list[str]:
            return ids_of([entry for entry in entries if keep(entry)])

        middle = entries[10]["createdAt"]
        assert await select(f"createdAfter={middle}") == ids_of(entries[10:])
        assert await select(f"createdBefore={middle}") == ids_of(entries[:11])
        workspace = entries[0]["workspaceId"]
        assert await select(f"workspaceId={workspace}") == where(lambda e: e["workspaceId"] == workspace)
        assert await select("sources=USER&sources=PROCESSING") == where(
            lambda e: e["source"] in {"USER", "PROCESSING"}
        )
        assert await select("collectionNames=phr") == where(lambda e: e["collectionName"] == "phr")
        assert await select("producerNames=airbus") == where(lambda e: e["producerName"] == "airbus")
        assert await select("tags=2021") == where(lambda e: "2021" in (e["tags"] or []))
        status = "geospatialMetadataExtractionStatus"
        assert await select(f"{status}=FAILED") == where(lambda e: e[status] == "FAILED")
        order = entries[1]["orderId"]
        assert await select(f"search={order}") == where(lambda e: e["orderId"] == order)
        assert len(await select(f"search={order}")) == 2
        assert await select("search=HARBOUR") == where(lambda e: e["title"] == "Hamburg harbour")
        assert await select("search=nothing+like+this") == []


async def test_asset_metadata_is_the_entry_of_the_list_and_can_be_changed() -> None:
    async with storage_client() as client:
        entry = (await client.get("/v2/assets"))["content"][0]
        path = f"/v2/assets/{entry['id']}/metadata"
        assert await client.get(path) == entry
        changed = await client.post(path, {"title": "new", "tags": ["a"]})
        assert changed == {**entry, "title": "new", "tags": ["a"]}
        assert (await client.get("/v2/assets"))["content"][0] == changed


async def test_unknown_asset_returns_404() -> None:
    async with storage_client() as client:
        collection = (await client.get(f"{STAC}/collections"))["collections"][0]["id"]
        for asset_id in ("x", "6f1c2b64-3a2e-4d0c-8d4e-111111111111", collection):
            for method, path in (("GET", "metadata"), ("POST", "download-url")):
                status, problem = await client.send(method, f"/v2/assets/{asset_id}/{path}")
                assert (status, problem["title"]) == (404, "Not Found")
        for path in ("/v2/assets/unknown/path/x", "/v2/other", "/realms/other", "/webhooks"):
            status, problem = await client.send("GET", path)
            assert (status, problem["title"]) == (404, "Not Found")
        assert (await client.send("DELETE", "/v2/assets"))[0] == 405


# STAC


@pytest.mark.parametrize("path", [STAC, f"{STAC}/"])
async def test_catalog_links_data_and_search(path: str) -> None:
    async with storage_client() as client:
        catalog = await client.get(path)
        base = client.simulator.api_url
        links = {link["rel"]: link["href"] for link in catalog["links"]}
        assert links["data"] == f"{base}{STAC}/collections"
        assert links["search"] == f"{base}{STAC}/search"
        assert any(name.endswith("item-search") for name in catalog["conformsTo"])
        properties = (await client.get(f"{STAC}/queryables"))["properties"]
        assert {"order_id", "job_id", "asset_id"} <= set(properties)


async def test_hrefs_start_with_the_host_that_the_client_used() -> None:
    async with storage_client() as client:
        port = urlsplit(client.simulator.api_url).port
        other = f"http://localhost:{port}"
        status, page = await client.send("GET", f"{other}{STAC}/collections")
        assert status == 200
        hrefs = [asset["href"] for entry in page["collections"] for asset in entry["assets"].values()]
        hrefs += [link["href"] for link in page["links"]]
        assert hrefs
        assert all(href.startswith(f"{other}/") for href in hrefs)


@pytest.mark.parametrize("limit", [1, 4, 10, 100])
async def test_collections_pages_end_without_a_next_link(limit: int) -> None:
    async with storage_client(page_size=1_000) as client:
        everything = await client.follow(f"{STAC}/collections?limit={limit}", "collections")
        assert len(everything) == len(set(ids_of(everything))) == 23
        page = await client.get(f"{STAC}/collections?limit={limit}")
        assert len(page["collections"]) == min(limit, 23)
        following = [link["href"] for link in page["links"] if link["rel"] == "next"]
        last = page["collections"][-1]["id"]
        href = f"{client.simulator.api_url}{STAC}/collections?limit={limit}&token=next:{last}"
        assert following == ([href] if limit < 23 else [])


async def test_collections_default_page_has_ten_entries_and_the_newest_first() -> None:
    async with storage_client() as client:
        assert len((await client.get(f"{STAC}/collections"))["collections"]) == 10
        originals = await client.pages("/v2/assets", "content")
        created = {entry["id"]: entry["createdAt"] for entry in originals}
        everything = await client.follow(f"{STAC}/collections", "collections")
        stamps = [
            created[entry["up42-system:asset_id"]]
            for entry in everything
            if entry["up42-system:asset_id"] is not None
        ]
        assert stamps == sorted(stamps, reverse=True)


async def test_collections_filter_by_workspace_keeps_the_filter_in_the_next_link() -> None:
    async with storage_client() as client:
        everything = await client.follow(f"{STAC}/collections", "collections")
        workspace = everything[0]["up42-system:workspace_id"]
        path = f"{STAC}/collections?workspace_id={workspace}&limit=2"
        selected = await client.follow(path, "collections")
        assert ids_of(selected) == [
            entry["id"] for entry in everything if entry["up42-system:workspace_id"] == workspace
        ]
        assert 2 < len(selected) < len(everything)


async def test_items_of_a_collection_are_those_of_the_search() -> None:
    async with storage_client(page_size=2) as client:
        items = await client.search({})
        for collection in await client.follow(f"{STAC}/collections", "collections"):
            own = await client.follow(f"{STAC}/collections/{collection['id']}/items", "features")
            assert own == [item for item in items if item["collection"] == collection["id"]]
            assert (await client.get(f"{STAC}/collections/{collection['id']}")) == collection
            for item in own:
                assert await client.get(f"{STAC}/collections/{collection['id']}/items/{item['id']}") == item


@pytest.mark.parametrize("path", ["collections/x", "collections/x/items", "collections/x/items/y"])
async def test_unknown_collection_returns_404(path: str) -> None:
    async with storage_client() as client:
        status, error = await client.send("GET", f"{STAC}/{path}")
        assert (status, error["code"]) == (404, "NotFoundError")


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "token=next:x", "token=prev:"])
async def test_collections_invalid_query_returns_400(query: str) -> None:
    async with storage_client() as client:
        status, error = await client.send("GET", f"{STAC}/collections?{query}")
        assert (status, error["code"]) == (400, "BadRequest")


async def test_deleted_collection_disappears_and_a_walk_continues_after_it() -> None:
    async with storage_client() as client:
        everything = await client.follow(f"{STAC}/collections", "collections")
        page = await client.get(f"{STAC}/collections?limit=3")
        href = next(link["href"] for link in page["links"] if link["rel"] == "next")
        victim = page["collections"][2]
        status, document = await client.send("DELETE", f"{STAC}/collections/{victim['id']}")
        assert (status, document) == (204, None)
        assert await client.follow(href, "collections") == everything[3:]
        assert (await client.send("GET", f"{STAC}/collections/{victim['id']}"))[0] == 404
        assert victim["up42-system:asset_id"] not in ids_of(await client.pages("/v2/assets", "content"))
        assert victim["id"] not in {item["collection"] for item in await client.search({})}
        assert victim["id"] not in {file.collection_id for file in client.simulator.expected_files()}


async def test_item_title_and_tags_can_be_changed() -> None:
    async with storage_client() as client:
        item = (await client.search({}))[0]
        path = f"{STAC}/collections/{item['collection']}/items/{item['id']}"
        body = {"up42-user:title": "new", "up42-user:tags": None}
        status, changed = await client.send("PATCH", path, json=body)
        assert status == 200
        assert changed["properties"]["up42-user:title"] == "new"
        assert await client.get(path) == changed


# search


async def search_values(client: StorageClient, body: Any, name: str) -> list[Any]:
    return [item["properties"].get(name) for item in await client.search(body)]


async def test_search_pages_have_a_body_with_the_token_and_the_limit() -> None:
    async with storage_client() as client:
        page = await client.post(f"{STAC}/search", {"limit": 3})
        link = next(link for link in page["links"] if link["rel"] == "next")
        assert link["body"] == {"limit": 3, "token": f"next:{page['features'][-1]['id']}"}
        assert set(page) == {"type", "features", "links"}
        everything = await client.search({"limit": 3})
        assert len(everything) == len(set(ids_of(everything))) > 20
        assert ids_of(await client.follow(f"{STAC}/search?limit=3", "features")) == ids_of(everything)


@pytest.mark.parametrize(
    ("name", "long"),
    [
        ("order_id", "up42-order:id"),
        ("job_id", "up42-system:job_id"),
        ("asset_id", "up42-system:asset_id"),
        ("workspace_id", "up42-system:workspace_id"),
        ("collection_name", "up42-product:collection_name"),
    ],
)
async def test_search_filter_selects_by_a_property(name: str, long: str) -> None:
    async with storage_client() as client:
        everything = await client.search({})
        for value in {item["properties"].get(long) for item in everything} - {None}:
            expected = [item for item in everything if item["properties"].get(long) == value]
            for key in (name, long):
                tree = {"op": "=", "args": [{"property": key}, value]}
                body = {"filter": tree, "filter-lang": "cql2-json", "limit": 2}
                assert await client.search(body) == expected
            query = quote(json.dumps(tree), safe="")
            assert await client.follow(f"{STAC}/search?filter={query}", "features") == expected


async def test_search_filter_and_combines_conditions() -> None:
    async with storage_client() as client:
        everything = await client.search({})
        item = everything[3]
        workspace = {
            "op": "=",
            "args": [{"property": "workspace_id"}, item["properties"]["up42-system:workspace_id"]],
        }
        collection = {"op": "=", "args": [{"property": "collection"}, item["collection"]]}
        both = await client.search({"filter": {"op": "and", "args": [workspace, collection]}})
        assert both == [found for found in everything if found["collection"] == item["collection"]]
        inverse = {"op": "not", "args": [workspace]}
        assert await client.search({"filter": {"op": "and", "args": [inverse, collection]}}) == []
        either = await client.search({"filter": {"op": "or", "args": [inverse, workspace]}})
        assert either == everything


async def test_search_accepts_the_wrapped_filter_of_the_older_client() -> None:
    async with storage_client() as client:
        everything = await client.search({})
        asset_id = everything[0]["properties"]["up42-system:asset_id"]
        tree = {"op": "=", "args": [{"property": "asset_id"}, asset_id]}
        body = {"filter": {"max_items": 50, "limit": 50, "filter": tree}, "filter-lang": "cql2-json"}
        found = await client.search(body)
        assert found
        assert all(item["properties"]["up42-system:asset_id"] == asset_id for item in found)


async def test_search_by_ids_collections_bbox_and_datetime() -> None:
    async with storage_client() as client:
        everything = await client.search({})
        item = everything[5]
        assert await client.search({"ids": [item["id"], "unknown"]}) == [item]
        assert await client.search({"collections": ["unknown"]}) == []
        assert item in await client.search({"collections": [item["collection"]]})
        assert item in await client.search({"bbox": item["bbox"]})
        assert item in await client.search({"intersects": item["geometry"]})
        assert item not in await client.search({"bbox": [0, 88, 1, 89]})
        stamp = item["properties"]["datetime"]
        assert item in await client.search({"datetime": stamp})
        assert item in await client.search({"datetime": f"../{stamp}"})
        assert item not in await client.search({"datetime": "2030-01-01T00:00:00Z/.."})
        younger = {"op": ">=", "args": [{"property": "datetime"}, {"timestamp": stamp}]}
        assert {
            found["properties"]["datetime"] >= stamp for found in await client.search({"filter": younger})
        } == {True}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"filter": {"op": "like", "args": [{"property": "id"}, "x"]}},
        {"filter": {"op": "=", "args": [{"property": "unknown"}, "x"]}},
        {"filter": {"op": "=", "args": ["id", "x"]}},
        {"filter": {"op": "="}},
        {"filter": {"op": "and", "args": ["x"]}},
        {"filter": {"filter": "x"}},
        {"limit": "many"},
        {"token": "next:unknown"},
        {"bbox": [1]},
        {"datetime": "yesterday"},
        {"intersects": {}},
    ],
)
async def test_search_invalid_body_returns_400(body: Any) -> None:
    async with storage_client() as client:
        status, error = await client.send("POST", f"{STAC}/search", json=body)
        assert (status, error["code"]) == (400, "BadRequest")


# signed URLs


async def test_signed_url_has_the_disposition_range_and_checksums() -> None:
    async with storage_client() as client:
        file = next(file for file in client.simulator.expected_files() if file.size_bytes > 2_000)
        url = await client.sign(file.asset_id)
        query = parse_qs(urlsplit(url).query)
        assert query["response-content-disposition"] == [f"attachment; filename={file.name}"]
        assert urlsplit(url).path.endswith(f"/assets/{file.asset_id}")
        status, headers, body = await client.read(url, Range="bytes=100-299")
        whole = file.read()
        assert (status, body) == (206, whole[100:300])
        assert headers["Content-Disposition"] == f"attachment; filename={file.name}"
        digest = base64.b64encode(google_crc32c.Checksum(whole).digest()).decode()
        assert f"crc32c={digest}" in headers.getall("x-goog-hash")
        assert headers["ETag"]
        assert headers["x-goog-generation"]
        assert url != await client.sign(file.asset_id) or query["Expires"]


async def test_signed_url_quotes_a_hostile_name_and_the_header_has_no_control_characters() -> None:
    account = SimulatedAccount(storage=StorageOptions(hostile_names=True))
    async with storage_client(account) as client:
        names = set()
        for file in client.simulator.expected_files():
            url = await client.sign(file.asset_id)
            (disposition,) = parse_qs(urlsplit(url).query)["response-content-disposition"]
            name = disposition.removeprefix("attachment; filename=")
            if name.startswith('"'):
                status, headers, body = await client.read(url)
                assert (status, body) == (200, file.read())
                assert headers["Content-Disposition"].isprintable()
                names.add(name[1:-1])
        assert names <= set(HOSTILE_NAMES)
        assert "../../escaped.jpg" in names


@pytest.mark.parametrize("change", [("attachment", "inline"), ("response-content-disposition=", "x=")])
async def test_signed_url_with_another_disposition_is_rejected(change: tuple[str, str]) -> None:
    async with storage_client() as client:
        file = next(iter(client.simulator.expected_files()))
        url = (await client.sign(file.asset_id)).replace(*change)
        assert (await client.read(url))[0] == 403


async def test_signed_url_expires() -> None:
    async with storage_client() as client:
        file = next(iter(client.simulator.expected_files()))
        url = await client.sign(file.asset_id)
        client.simulator.expire_urls()
        status, _, body = await client.read(url)
        assert status == 400
        assert b"ExpiredToken" in body
        assert (await client.read(await client.sign(file.asset_id)))[0] == 200


async def test_replaced_object_has_other_bytes_and_validators() -> None:
    async with storage_client() as client:
        for file in client.simulator.expected_files():
            before = await client.read(await client.sign(file.asset_id))
            client.simulator.replace_object(file.path, 100)
            after = await client.read(await client.sign(file.asset_id))
            assert before[2] != after[2] == file.read()
            assert before[1]["ETag"] != after[1]["ETag"]
            assert before[1]["x-goog-generation"] != after[1]["x-goog-generation"]


# jobs and orders


async def test_processing_jobs_link_their_collections() -> None:
    async with storage_client() as client:
        jobs = await client.follow("/v2/processing/jobs?limit=2&sort=created,desc", "jobs")
        assert [job["status"] for job in jobs] == [
            "captured",
            "running",
            "successful",
            "failed",
            "successful",
        ]
        collections = {
            entry["id"]: entry for entry in await client.follow(f"{STAC}/collections", "collections")
        }
        for job in jobs:
            assert await client.get(f"/v2/processing/jobs/{job['jobID']}") == job
            if job["status"] in {"successful", "captured"}:
                collection = collections[job["results"]["collection"].rpartition("/")[2]]
                assert collection["up42-system:job_id"] == job["jobID"]
        assert jobs[1]["results"] is jobs[1]["finished"] is None
        assert jobs[3]["results"]["errors"]
        selected = await client.get("/v2/processing/jobs?status=failed,captured")
        assert {job["status"] for job in selected["jobs"]} == {"failed", "captured"}
        ids = ",".join(job["jobID"] for job in jobs[:2])
        assert len((await client.get(f"/v2/processing/jobs?ids={ids}"))["jobs"]) == 2


async def test_processing_jobs_next_link_is_relative_and_keeps_the_query() -> None:
    async with storage_client() as client:
        page = await client.get("/v2/processing/jobs?limit=2&sort=created%2Casc")
        (link,) = page["links"]
        assert link["href"].startswith("/v2/processing/jobs?")
        query = parse_qs(urlsplit(link["href"]).query)
        assert (query["limit"], query["sort"]) == (["2"], ["created,asc"])


async def test_orders_are_those_of_the_assets() -> None:
    async with storage_client() as client:
        orders = await client.pages("/v2/orders?size=5", "content")
        assert len(set(ids_of(orders))) == len(orders) == 12
        assets = await client.pages("/v2/assets", "content")
        assert {entry["orderId"] for entry in assets} - {None} <= set(ids_of(orders))
        stamps = [order["createdAt"] for order in orders]
        assert stamps == sorted(stamps, reverse=True)
        for order in orders:
            assert await client.get(f"/v2/orders/{order['id']}") == order
            details = order["orderDetails"]
            assert ("acquisitionStart" in details) == (order["type"] == "TASKING")
        statuses = "status=FULFILLED&status=BEING_FULFILLED"
        assert len(await client.pages(f"/v2/orders?{statuses}", "content")) == 12
        growing = await client.pages("/v2/orders?status=BEING_FULFILLED", "content")
        assert 0 < len(growing) < 12
        assert (await client.get(f"/v2/orders?orderIds={orders[0]['id']}"))["totalElements"] == 1
    async with storage_client() as client:
        for path in ("/v2/orders/x", "/v2/processing/jobs/x"):
            assert (await client.send("GET", path))[0] == 404


async def test_order_that_grows_gets_a_newer_delivery_and_is_fulfilled() -> None:
    async with storage_client() as client:
        newest = (await client.get("/v2/assets"))["content"][0]
        path = f"/v2/orders/{newest['orderId']}"
        tree = {"op": "=", "args": [{"property": "order_id"}, newest["orderId"]]}
        assert (await client.get(path))["status"] == "BEING_FULFILLED"
        before = await client.search({"filter": tree})
        client.simulator.evolve_storage(assets=client.simulator.account.storage.assets + 1)
        assert (await client.get(path))["status"] == "FULFILLED"
        after = await client.search({"filter": tree})
        assert {item["collection"] for item in before} < {item["collection"] for item in after}
        page = await client.get(f"/v2/assets?search={newest['orderId']}")
        assert page["content"][0]["createdAt"] > newest["createdAt"]


async def test_settled_account_has_more_items_and_no_extraction_in_progress() -> None:
    async with storage_client() as client:
        running = await client.pages("/v2/assets?geospatialMetadataExtractionStatus=IN_PROGRESS", "content")
        assert len(running) == 2
        before = {file.asset_id for file in client.simulator.expected_files()}
        client.simulator.evolve_storage(settled=True)
        after = {file.asset_id for file in client.simulator.expected_files()}
        assert before < after
        collections = await client.follow(f"{STAC}/collections", "collections")
        with_items = {item["collection"] for item in await client.search({"limit": 100})}
        for entry in running:
            assert (await client.get(f"/v2/assets/{entry['id']}/metadata"))[
                "geospatialMetadataExtractionStatus"
            ] == "SUCCESSFUL"
            (own,) = [found for found in collections if found["up42-system:asset_id"] == entry["id"]]
            assert own["id"] in with_items
        jobs = await client.follow("/v2/processing/jobs", "jobs")
        assert "running" not in {job["status"] for job in jobs}


async def test_storage_of_any_size_is_served() -> None:
    account = SimulatedAccount(storage=StorageOptions(assets=300_000, items=(1, 1), item_assets=(3, 6)))
    async with storage_client(account, page_size=1_000) as client:
        page = await client.get("/v2/assets?sort=createdAt,asc&size=50&page=5999")
        assert (page["totalElements"], page["last"], len(page["content"])) == (300_000, True, 50)
        collection = (await client.get(f"{STAC}/collections?limit=1"))["collections"][0]
        tree = {"op": "=", "args": [{"property": "collection"}, collection["id"]]}
        assert await client.search({"filter": tree})
        assert (await client.get("/v2/orders"))["totalElements"] > 100_000
