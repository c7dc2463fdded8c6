import json

import pytest

from bulkdl.errors import ApiError
from bulkdl.models import Reason
from bulkdl.sources.up42_storage.client import is_listing_withdrawn
from bulkdl.sources.up42_storage.models import UnreadableEntry
from bulkdl.sources.up42_storage.pagination import iter_entries

API = "https://api.example"
STAC = f"{API}/v2/assets/stac"
ASSET = "0b6f0000-0000-4000-8000-000000000001"


def _page(*ids, total_pages, **fields):
    entries = [{"id": identity, "createdAt": "2024-01-01T00:00:00Z"} for identity in ids]
    return {"content": entries, "totalPages": total_pages, "totalElements": len(ids), **fields}


def _assets_url(page, size=2):
    return f"{API}/v2/assets?sort=createdAt,asc&size={size}&page={page}"


async def _ids(entries):
    return [entry.id if not isinstance(entry, UnreadableEntry) else None async for entry in entries]


async def _page_ids(pages):
    return await _ids(iter_entries(pages))


async def _failure(pages):
    with pytest.raises(ApiError) as caught:
        await _page_ids(pages)
    return caught.value


async def test_originals_are_read_from_the_last_page_down(storage_kit):
    storage_kit.api.get(_assets_url(0), payload=_page("a", "b", total_pages=3))
    storage_kit.api.get(_assets_url(2), payload=_page("e", total_pages=3))
    # "a" is deleted now, so "c" moves to page 0 and "e" to page 1.
    storage_kit.api.get(_assets_url(1), payload=_page("d", "e", total_pages=2))
    storage_kit.api.get(_assets_url(0), payload=_page("b", "c", total_pages=2))
    ids = await _page_ids(storage_kit.client(page_size=2).original_pages())
    assert ids == ["e", "d", "e", "b", "c"]


async def test_originals_of_one_page_need_one_request(storage_kit):
    storage_kit.api.get(_assets_url(0), payload=_page("a", total_pages=1))
    assert await _page_ids(storage_kit.client(page_size=2).original_pages()) == ["a"]
    assert len(storage_kit.sent("GET")) == 1


async def test_originals_list_that_shrinks_skips_the_pages_behind_its_end(storage_kit):
    storage_kit.api.get(_assets_url(0), payload=_page("a", "b", total_pages=500))
    storage_kit.api.get(_assets_url(499), payload=_page(total_pages=1))
    storage_kit.api.get(_assets_url(0), payload=_page("a", total_pages=1))
    assert await _page_ids(storage_kit.client(page_size=2).original_pages()) == ["a"]


async def test_originals_without_total_are_read_up_to_the_first_empty_page(storage_kit):
    for number, content in enumerate((["a"], ["b"], [])):
        storage_kit.api.get(_assets_url(number), payload={"content": [{"id": id_} for id_ in content]})
    assert await _page_ids(storage_kit.client(page_size=2).original_pages()) == ["a", "b"]


async def test_originals_list_without_an_end_stops(storage_kit):
    storage_kit.api.get(_assets_url(0), payload=_page("a", total_pages=10**9))
    for number in range(131_000, 131_072):
        storage_kit.api.get(_assets_url(number), payload=_page("a", total_pages=10**9))
    assert set(await _page_ids(storage_kit.client(page_size=2).original_pages())) == {"a"}


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_originals_withdrawn_endpoint_is_recognised(storage_kit, status):
    problem = {"title": "Gone", "status": status}
    storage_kit.api.get(_assets_url(0), status=status, payload=problem)
    failure = await _failure(storage_kit.client(page_size=2).original_pages())
    assert is_listing_withdrawn(failure)
    assert "Gone" in failure.detail
    assert len(storage_kit.sent("GET")) == 1


async def test_originals_404_of_a_gateway_is_retried(storage_kit):
    storage_kit.api.get(_assets_url(0), status=404, body="<html>not found</html>")
    storage_kit.api.get(_assets_url(0), payload=_page("a", total_pages=1))
    assert await _page_ids(storage_kit.client(page_size=2).original_pages()) == ["a"]


async def test_collections_follow_the_next_link_on_the_origin_of_the_api(storage_kit):
    link = {"rel": "next", "href": "http://api.example/v2/assets/stac/collections?limit=2&token=next:b"}
    first = {"collections": [{"id": "a"}, {"id": "b"}], "links": [{"rel": "self", "href": "x"}, link]}
    storage_kit.api.get(f"{STAC}/collections?limit=2", payload=first)
    storage_kit.api.get(
        f"{STAC}/collections?limit=2&token=next:b", payload={"collections": [{"id": "c"}], "links": []}
    )
    assert await _page_ids(storage_kit.client(page_size=2).collection_pages()) == ["a", "b", "c"]
    assert all(sent["headers"]["Authorization"] == "Bearer T1" for _, sent in storage_kit.sent("GET"))


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.example/v2/assets/stac/collections?token=x",
        "https://api.example:8443/v2/assets/stac/collections",
        "https://api.example@evil.example/",
        "//evil.example/x",
        "ftp://api.example/x",
        "https://[::1/x",
        "collections?token=x",
        "https://api.example/a b",
        "",
    ],
)
async def test_collections_next_link_to_another_place_is_rejected(storage_kit, href):
    payload = {"collections": [{"id": "a"}], "links": [{"rel": "next", "href": href}]}
    storage_kit.api.get(f"{STAC}/collections?limit=2", payload=payload, repeat=True)
    failure = await _failure(storage_kit.client(page_size=2).collection_pages())
    assert failure.reason is Reason.INVALID_RESPONSE
    assert "next" in failure.detail
    assert {path for path, _ in storage_kit.sent("GET")} == {"/v2/assets/stac/collections?limit=2"}


async def test_collections_link_that_became_invalid_restarts_the_list_once(storage_kit):
    def page(*ids, token=None):
        href = f"{STAC}/collections?limit=2&token={token}"
        links = [{"rel": "next", "href": href}] if token else []
        return {"collections": [{"id": identity} for identity in ids], "links": links}

    storage_kit.api.get(f"{STAC}/collections?limit=2", payload=page("a", "b", token="next:b"))
    storage_kit.api.get(
        f"{STAC}/collections?limit=2&token=next:b", status=404, payload={"title": "Not Found", "status": 404}
    )
    storage_kit.api.get(f"{STAC}/collections?limit=2", payload=page("a", "c"))
    assert await _page_ids(storage_kit.client(page_size=2).collection_pages()) == ["a", "b", "a", "c"]


async def test_collections_list_that_repeats_itself_stops(storage_kit):
    href = f"{STAC}/collections?limit=2&token=next:a"
    payload = {"collections": [{"id": "a"}], "links": [{"rel": "next", "href": href}]}
    storage_kit.api.get(f"{STAC}/collections?limit=2", payload=payload)
    storage_kit.api.get(href, payload=payload, repeat=True)
    assert set(await _page_ids(storage_kit.client(page_size=2).collection_pages())) == {"a"}


async def test_search_items_posts_the_body_of_the_next_link(storage_kit):
    body = {"collections": ["c"], "limit": 2, "token": "next:i1"}
    link = {"rel": "next", "href": f"{STAC}/search", "method": "POST", "body": body}
    item = {"collection": "c", "properties": {}, "assets": {}}
    storage_kit.api.post(f"{STAC}/search", payload={"features": [{"id": "i1", **item}], "links": [link]})
    storage_kit.api.post(f"{STAC}/search", payload={"features": [{"id": "i2", **item}], "links": []})
    assert await _ids(storage_kit.client(page_size=2).search_items(["c"])) == ["i1", "i2"]
    bodies = [json.loads(sent["data"]) for path, sent in storage_kit.sent("POST") if path.endswith("search")]
    assert bodies == [{"collections": ["c"], "limit": 2}, body]


async def test_jobs_follow_relative_links(storage_kit):
    first = f"{API}/v2/processing/jobs?limit=2&sort=created,desc"
    link = {"rel": "next", "href": "/v2/processing/jobs?limit=2&page=1"}
    entry = {"status": "captured", "results": {"collection": f"{STAC}/collections/R"}}
    storage_kit.api.get(first, payload={"jobs": [{"jobID": "j1", **entry}], "links": [link]})
    storage_kit.api.get(
        f"{API}/v2/processing/jobs?limit=2&page=1", payload={"jobs": [{"jobID": "j2", "results": None}]}
    )
    jobs = [job async for job in iter_entries(storage_kit.client(page_size=2).job_pages())]
    assert [(job.id, job.collection_id, job.status) for job in jobs] == [
        ("j1", "R", "CAPTURED"),
        ("j2", None, ""),
    ]


async def test_sign_sends_an_empty_post(storage_kit):
    url = f"https://storage.example/bucket/assets/{ASSET}?Expires=1&Signature=s%3D"
    storage_kit.api.post(f"{API}/v2/assets/{ASSET}/download-url", payload={"url": url})
    assert await storage_kit.client().sign(ASSET) == url
    (sent,) = [sent for path, sent in storage_kit.sent("POST") if "download-url" in path]
    assert sent["data"] is None


@pytest.mark.parametrize(
    ("status", "payload", "reason"),
    [
        (404, {"title": "Not Found", "status": 404}, Reason.NOT_FOUND),
        (404, {"code": "NotFoundError", "description": "no asset"}, Reason.NOT_FOUND),
        (404, {"message": "no Route matched"}, Reason.INVALID_RESPONSE),
        (403, {"title": "Forbidden", "status": 403}, Reason.FORBIDDEN),
        (200, {"url": "http://storage.example/x"}, Reason.INSECURE_URL),
        (200, {"url": 7}, Reason.INVALID_RESPONSE),
        (200, [], Reason.INVALID_RESPONSE),
    ],
)
async def test_sign_failure_has_its_reason(storage_kit, status, payload, reason):
    storage_kit.api.post(f"{API}/v2/assets/{ASSET}/download-url", status=status, payload=payload, repeat=True)
    with pytest.raises(ApiError) as caught:
        await storage_kit.client().sign(ASSET)
    assert caught.value.reason is reason


async def test_sign_rejected_token_is_renewed_and_the_post_repeated(storage_kit):
    endpoint = f"{API}/v2/assets/{ASSET}/download-url"
    storage_kit.api.post(endpoint, status=401, payload={"title": "Unauthorized", "status": 401})
    storage_kit.api.post(endpoint, payload={"url": "https://storage.example/x"})
    assert await storage_kit.client().sign(ASSET) == "https://storage.example/x"


async def test_collection_with_another_id_is_rejected(storage_kit):
    storage_kit.api.get(f"{STAC}/collections/c1", payload={"id": "c2"})
    with pytest.raises(ApiError, match="expected c1, got c2"):
        await storage_kit.client().collection("c1")
