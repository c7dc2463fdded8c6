"""Test unexpected JSON, wrong lengths, old servers, redirects and mutated headers."""

import random
import sqlite3
from contextlib import closing

import pytest

from support.raw_origin import ENDPOINTS, RawOrigin, respond_with_status, set_header

pytestmark = pytest.mark.usefixtures("virtual_clock")

DOCUMENTS = ("token", "jobs", "tasks", "names", "sign")
OUTPUTS = ("archive", "quicklook", "geojson")
NO_BUG = {0, 3, 4, 5, 6, 7}


def wrong_files(origin, root):
    """Return the final files that differ from the stored objects."""
    ledger = root / ".bulkdl" / "ledger.sqlite3"
    with closing(sqlite3.connect(ledger)) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM outputs WHERE key IS NOT NULL")]
    right = {origin.archive, origin.quicklook, origin.geojson}
    return [key for key in keys if (root / key).read_bytes() not in right]


async def guarded(origin, root, **settings):
    code, ends = await origin.run(root, headers_timeout=1, speed_time=1, **settings)
    assert code in NO_BUG, ends
    assert not {"internal", "disk_error"} & {reason for _, reason, _ in ends.values()}
    return code, ends


ODD_JSON = {
    "nested": b"[" * 100_000,
    "nested in data": b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not a number": b'{"data": NaN, "access_token": NaN}',
    "5000 digits": b'{"data": ' + b"9" * 5000 + b', "access_token": "T", "expires_in": ' + b"9" * 5000 + b"}",
    "infinite life": b'{"data": [], "access_token": "T", "expires_in": 1e999}',
    "duplicate keys": b'{"data": 1, "data": {}, "access_token": 1, "access_token": []}',
    "half surrogates": b'{"data": ["\\ud800"], "access_token": "\\ud800"}',
    "byte order mark": b'\xef\xbb\xbf{"data": []}',
    "utf-16": '{"data": []}'.encode("utf-16"),
    "not utf-8": b'{"data": ["\xe9"], "access_token": "\xe9"}',
    "null": b"null",
    "empty": b"",
}


@pytest.mark.parametrize("body", ODD_JSON.values(), ids=ODD_JSON)
async def test_run_unexpected_json_ends_without_an_internal_error(tmp_path, body):
    async with RawOrigin().serve() as origin:
        for place in DOCUMENTS:
            origin.changes = {place: respond_with_status(200, b"Content-Type: application/json", body=body)}
            await guarded(origin, tmp_path / place)
            assert wrong_files(origin, tmp_path / place) == []


def with_length(*lines):
    def changed(response):
        head, _, body = response.partition(b"\r\n\r\n")
        kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        return b"\r\n".join([*kept, *lines]) + b"\r\n\r\n" + body

    return changed


LYING = {
    "too short": with_length(b"Content-Length: 100"),
    "too long": with_length(b"Content-Length: 999999"),
    "negative": with_length(b"Content-Length: -5"),
    "not a number": with_length(b"Content-Length: abc"),
    "huge": with_length(b"Content-Length: " + b"9" * 30),
    "twice": with_length(b"Content-Length: 10", b"Content-Length: 20"),
    "with chunked": with_length(b"Content-Length: 10", b"Transfer-Encoding: chunked"),
    "cut without a length": lambda response: with_length()(response)[:-20],
}


@pytest.mark.parametrize("response", LYING.values(), ids=LYING)
async def test_run_wrong_content_length_leaves_no_wrong_file(tmp_path, response):
    async with RawOrigin().serve() as origin:
        for place in OUTPUTS:
            root = tmp_path / place
            origin.changes = {place: response}
            await guarded(origin, root)
            assert wrong_files(origin, root) == []
            origin.changes = {}
            assert (await guarded(origin, root))[0] == 0


def chunked(response):
    head, _, body = with_length(b"Transfer-Encoding: chunked")(response).partition(b"\r\n\r\n")
    middle = len(body) // 2
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:]))
    return head + b"\r\n\r\n" + chunks + b"0\r\nX-Trailer: 1\r\n\r\n"


OLD = {
    "http/1.0 until close": lambda response: with_length()(response).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "until close": with_length(b"Connection: close"),
    "chunked with trailers": chunked,
    "1xx before the response": lambda response: b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" + response,
}


@pytest.mark.parametrize("response", OLD.values(), ids=OLD)
async def test_run_http_1_0_or_verbose_server_completes(tmp_path, response):
    async with RawOrigin().serve() as origin:
        origin.changes = dict.fromkeys(ENDPOINTS, response)
        assert (await guarded(origin, tmp_path))[0] == 0
        assert wrong_files(origin, tmp_path) == []


@pytest.mark.parametrize("place", ENDPOINTS)
async def test_run_redirect_to_another_host_sends_no_credentials(tmp_path, place):
    async with RawOrigin().serve() as origin, RawOrigin().serve() as other:
        location = f"Location: http://localhost:{other.port}/elsewhere".encode()
        origin.changes = {place: respond_with_status(302, location)}
        await guarded(origin, tmp_path)
        assert not any(b"authorization" in head.lower() for _, head in other.requests)
        if place == "token":
            assert other.requests == []


def mutated(rng):
    """Change a few ASCII bytes of the headers."""

    def changed(response):
        end = response.find(b"\r\n\r\n") + 4
        head = bytearray(response[:end])
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(head))
            match rng.randrange(3):
                case 0:
                    head[at] = rng.randrange(128)
                case 1:
                    del head[at]
                case _:
                    head[at:at] = bytes(rng.randrange(128) for _ in range(rng.randrange(1, 9)))
        return bytes(head) + response[end:]

    return changed


@pytest.mark.parametrize("seed", range(12))
async def test_run_mutated_headers_leave_no_wrong_file_and_no_internal_error(tmp_path, seed):
    rng = random.Random(seed)
    async with RawOrigin().serve() as origin:
        for number, place in enumerate(ENDPOINTS):
            root = tmp_path / str(number)
            origin.changes = {place: mutated(rng)}
            await guarded(origin, root, retries=1)
            assert wrong_files(origin, root) == []


async def test_content_encoding_identity_completes_an_archive(tmp_path):
    async with RawOrigin().serve() as origin:
        origin.changes = {"archive": set_header(b"Content-Encoding: identity")}
        assert (await guarded(origin, tmp_path))[0] == 0
        assert wrong_files(origin, tmp_path) == []
