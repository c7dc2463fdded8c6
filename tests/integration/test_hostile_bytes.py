"""Test invalid bytes in responses: they fail at most one output or one job, and never the run."""

import json

import pytest

from support.raw_origin import ENDPOINTS, RawOrigin, respond_with_status, set_header

DONE = {"archive", "quicklook", "geojson"}
NOT_UTF8 = (b'ETag: "\xe9"', b"Last-Modified: \xff", b"x-goog-generation: \x80\x81")


def completed(ends):
    return {kind for kind, (outcome, _, _) in ends.items() if outcome in ("completed", "skipped")}


@pytest.mark.parametrize("place", sorted(DONE))
@pytest.mark.parametrize("line", NOT_UTF8)
async def test_run_with_a_header_that_is_not_utf8_completes_every_output(tmp_path, place, line):
    async with RawOrigin().serve() as origin:
        origin.changes = {place: set_header(line)}
        assert (await origin.run(tmp_path))[0] == 0
        assert (await origin.run(tmp_path))[0] == 0
        assert origin.count(place) == 1


async def test_run_over_an_older_sidecar_with_a_validator_that_is_not_utf8_completes(tmp_path):
    async with RawOrigin(archive_bytes=1_500_000).serve() as origin:
        cut = {"archive": lambda change: change[:1_300_000]}
        origin.changes = cut
        code, _ = await origin.run(tmp_path, connections=1, retries=1)
        assert code == 5
        [sidecar] = (tmp_path / ".bulkdl" / "parts").glob("*.json")
        document = json.loads(sidecar.read_bytes())
        document["validator"]["etag"] = '"\udce9"'  # the format of earlier versions
        sidecar.write_text(json.dumps(document))
        origin.changes = {}
        code, ends = await origin.run(tmp_path)
        assert (code, completed(ends)) == (0, {"archive"})


HOSTILE = {
    "etag": set_header(b'ETag: "\xe9\x00"'.replace(b"\x00", b"\x01")),
    "content type": set_header(b"Content-Type: \xe9\xff/\xfe"),
    "content encoding": set_header(b"Content-Encoding: \xe9\xff"),
    "identity": set_header(b"Content-Encoding: identity"),
    "goog hash": set_header(b"x-goog-hash: crc32c=\xff\xff,md5=" + b"9" * 4000),
    "stored length": set_header(b"x-goog-stored-content-length: " + b"9" * 4400),
    "content range": set_header(b"Content-Range: bytes 0-" + b"9" * 4400 + b"/*"),
    "206 of many digits": respond_with_status(206, b"Content-Range: bytes 0-1/" + b"9" * 4400, body=b"xx"),
    "retry after zone": respond_with_status(
        503, b"Retry-After: Fri, 01 Mar 2024 12:00:09 +99999999999999999999"
    ),
    "retry after bytes": respond_with_status(429, b"Retry-After: \xe9\xff"),
    "redirect to rubbish": respond_with_status(302, b"Location: http://a[x]@"),
    "redirect to bytes": respond_with_status(302, b"Location: http://\xe9\xff/\xfe"),
    "redirect to a port": respond_with_status(302, b"Location: http://127.0.0.1:99999999/"),
    "redirect in circles": respond_with_status(302, b"Location: ?"),
    "redirect to a file": respond_with_status(302, b"Location: file:///etc/passwd"),
    "status line": lambda _: b"HTTP/1.1 \xe9\xff\r\n\r\n",
    "nothing": lambda _: b"",
    "binary": lambda _: bytes(range(256)) * 8,
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ENDPOINTS)
async def test_run_invalid_response_fails_its_own_output_without_an_internal_error(tmp_path, place, change):
    async with RawOrigin().serve() as origin:
        origin.changes = {place: change}
        code, ends = await origin.run(tmp_path)
        assert code in (0, 3, 4, 5, 6, 7)
        assert not {"internal", "disk_error"} & {reason for _, reason, _ in ends.values()}
        if place in DONE:
            assert completed(ends) >= DONE - {place}
        if place == "sign":
            assert completed(ends) >= DONE - {"archive"}
        origin.changes = {}
        code, ends = await origin.run(tmp_path)
        assert code == 0
        for path in tmp_path.rglob("*.tgz"):
            assert path.read_bytes() == origin.archive


@pytest.mark.parametrize("url", ["http://a[x]@", "http://a[x]@/b", "https://[::1", "http://h:99999999/"])
async def test_signed_url_that_cannot_be_parsed_fails_its_archive_only(tmp_path, url):
    async with RawOrigin().serve() as origin:
        body = json.dumps({"data": {"url": url}}).encode()
        origin.changes = {"sign": respond_with_status(200, b"Content-Type: application/json", body=body)}
        code, ends = await origin.run(tmp_path)
        assert (code, completed(ends)) == (3, DONE - {"archive"})
        assert ends["archive"][1] == "invalid_response"
