import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.errors import ApiError
from bulkdl.sources.up42_common.json_documents import parse_json
from bulkdl.sources.up42_storage import decode
from bulkdl.sources.up42_storage.models import StacAsset, UnreadableEntry
from bulkdl.sources.up42_storage.paths import ApiUrls

URLS = ApiUrls("https://api.up42.com")
ASSET = "0B6F0000-0000-4000-8000-000000000001"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def test_original_reads_all_fields():
    entry = {
        "id": ASSET,
        "workspaceId": "w1",
        "createdAt": "2023-08-22T17:06:20.652310999Z",
        "name": "oneatlas.zip",
        "size": 256248634,
        "contentType": "application/gzip",
        "orderId": "o1",
        "collectionName": "phr",
        "geospatialMetadataExtractionStatus": "IN_PROGRESS",
        "title": None,
    }
    original = decode.original(entry, "GET x")
    assert original.id == ASSET.lower()
    assert original.created_at == datetime(2023, 8, 22, 17, 6, 20, 652310, UTC)
    assert (original.size_bytes, original.order_id) == (256248634, "o1")
    assert original.extraction_status == "IN_PROGRESS"
    assert original.title == ""
    assert original.document == entry


def test_original_with_invalid_optional_fields_is_readable():
    entry = {"id": "a", "createdAt": 7, "size": -1, "name": ["x"], "orderId": "../x", "order": {"id": "o2"}}
    original = decode.original(entry, "GET x")
    assert (original.created_at, original.size_bytes, original.name) == (None, None, "")
    assert original.order_id == "o2"


@pytest.mark.parametrize("identity", ["..", "a/b", "", None, 7, "x" * 65, "a\n"])
def test_original_with_unsafe_id_is_reported_as_unreadable(identity):
    page = decode.originals_page({"content": [{"id": identity}, {"id": "ok"}]}, "GET x")
    unreadable, readable = page.entries
    assert isinstance(unreadable, UnreadableEntry)
    assert unreadable.identity is None
    assert readable.id == "ok"


@pytest.mark.parametrize("identity", ["..", ".", "a.", "a/b", "", "x" * 129, "a b", "é"])
def test_collection_with_unsafe_id_is_reported_as_unreadable(identity):
    page = decode.collections_page({"collections": [{"id": identity}]}, URLS, "GET x")
    (entry,) = page.entries
    assert isinstance(entry, UnreadableEntry)


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        (f"https://api.up42.com/v2/assets/{ASSET}", ASSET.lower()),
        (f"http://api.up42.com/v2/assets/{ASSET}", ASSET.lower()),
        (f"https://api.sa.up42.com/v2/assets/{ASSET}/download-url", ASSET.lower()),
        (f"/v2/assets/{ASSET}", ASSET.lower()),
        ("https://other.example/v2/assets/a1", None),
        ("https://api.up42.com/v2/assets/a%2Fb", None),
        ("https://api.up42.com/v2/assets/..%2f", None),
        ("https://api.up42.com/v2/assets/stac/collections/c", None),
        ("s3://bucket/key", None),
        (None, None),
        (7, None),
    ],
)
def test_item_asset_id_is_read_from_hrefs_of_up42_only(href, expected):
    item = {"id": "i", "collection": "c", "assets": {"b01.tiff": {"href": href, "roles": ["DATA", 7]}}}
    assert decode.item(item, URLS, "GET x").assets == (
        StacAsset("b01.tiff", expected, "", frozenset({"data"})),
    )


def test_item_with_too_many_assets_is_rejected():
    assets = {str(number): {} for number in range(decode.MAX_ASSETS + 1)}
    with pytest.raises(ApiError, match="at most"):
        decode.item({"id": "i", "collection": "c", "assets": assets}, URLS, "GET x")


def test_items_page_merges_the_body_if_the_link_asks_for_it():
    link = {"rel": "next", "href": "/v2/assets/stac/search", "method": "POST", "merge": True}
    document = {"features": [], "links": [{**link, "body": {"token": "next:x"}}]}
    page = decode.items_page(document, URLS, "POST x", {"limit": 5})
    assert page.next_page.payload == {"limit": 5, "token": "next:x"}


def _read_or_reject(read, document):
    """Return the value that *read* makes of *document*, or the message of its error."""
    try:
        return read(document)
    except ApiError as failure:
        return failure.detail


_PAGES = (
    lambda document: decode.originals_page(document, "GET x").entries,
    lambda document: decode.orders_page(document, "GET x").entries,
    lambda document: decode.collections_page(document, URLS, "GET x").entries,
    lambda document: decode.items_page(document, URLS, "GET x").entries,
    lambda document: decode.jobs_page(document, URLS, "GET x").entries,
)


@given(_JSON, st.sampled_from(["content", "collections", "features", "jobs"]))
def test_pages_accept_any_json_or_raise_an_api_error(document, key):
    for value in (document, {key: document}, {key: [document]}, {key: [], "links": document}):
        for read in _PAGES:
            result = _read_or_reject(read, value)
            assert isinstance(result, tuple) or result.startswith("GET x")


@given(st.dictionaries(st.sampled_from(["id", "collection", "assets", "properties", "title"]), _JSON))
def test_entries_with_any_fields_are_read_or_rejected(fields):
    for entry in (fields, {"id": "i", "collection": "c", **fields}, {"id": "i", "assets": {"k": fields}}):
        document = json.loads(json.dumps(entry))
        for read in (decode.item, decode.collection):
            result = _read_or_reject(lambda value, read=read: read(value, URLS, "GET x"), document)
            assert not isinstance(result, str) or result.isprintable()


def test_json_with_deep_nesting_is_rejected():
    with pytest.raises(ApiError):
        parse_json(b'{"collections":' + b"[" * 200_000, "GET x")
