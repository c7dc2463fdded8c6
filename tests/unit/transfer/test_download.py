"""Tests of Download over a real socket into a real directory, against a scripted storage."""

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bulkdl.errors import ApiError, DestinationError, TransferError
from bulkdl.models import Outcome, Reason, Validator
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.state import partial_file
from bulkdl.state.partial_file import PartialFile
from bulkdl.transfer.context import BLOCK_BYTES, Limits
from bulkdl.transfer.download import result_of_failure
from support.idle import wait_until_idle
from support.scripted_store import goog_hash
from support.transfer_objects import LARGE, POLICY, SMALL, targz


def cut(at):
    return lambda response: response.cut(at)


def status(code, body=b"", **headers):
    return lambda _: replace(_, status=code, headers={}, body=body, length=len(body)).with_headers(**headers)


def completed(result, site, body):
    assert (result.outcome, result.detail) == (Outcome.COMPLETED, "")
    assert site.files() == {result.file.key: body}
    assert result.file.size_bytes == len(body)
    assert str(result.file.digest) == goog_hash(body, "crc32c")
    return True


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_download_of_an_archive_commits_it_with_the_suffix_of_its_bytes(make_site, body):
    site = await make_site(body)
    result = await site.download()
    assert completed(result, site, body)
    assert result.file.key == "output.tar.gz"
    assert result.file.validator.etag == '"v1"'
    assert result.file.source == f"http://127.0.0.1:{site.store.port}/bucket/task.tar.gz"
    assert (result.attempts, result.downloaded_bytes, site.store.sent_bytes) == (1, len(body), len(body))
    assert site.partial_files() == []


@pytest.mark.parametrize("at", [0, 1, 511, 512, 65_536, 65_537, BLOCK_BYTES, 2_000_000, len(LARGE) - 1])
async def test_download_cut_at_any_byte_resumes_at_that_byte(make_site, at):
    site = await make_site(LARGE)
    site.store.script = [cut(at)]
    result = await site.download()
    assert completed(result, site, LARGE)
    offset = at if at >= 512 else 0  # fewer bytes are not kept
    assert site.store.ranges == [None, f"bytes={offset}-" if offset else None]
    assert result.downloaded_bytes == len(LARGE) + at - offset
    assert result.attempts == 2
    assert site.store.requests[-1].headers.get("if-range") == ('"v1"' if offset else None)


async def test_download_cut_repeatedly_downloads_each_byte_once_and_resets_the_attempt_count(make_site):
    site = await make_site(LARGE)
    site.store.script = [cut(200_000) for _ in range(3 * POLICY.max_attempts)]
    result = await site.download()
    assert completed(result, site, LARGE)
    assert site.store.sent_bytes == len(LARGE)
    assert result.attempts == 3 * POLICY.max_attempts + 1


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("md5",), ()])
async def test_download_after_resume_verifies_the_checksum_of_the_whole_body(make_site, digests):
    site = await make_site(LARGE, digests=digests)
    site.store.script = [cut(1_234_567)]
    assert completed(await site.download(), site, LARGE)


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ()])
@pytest.mark.parametrize(("old", "new"), [(LARGE, targz(3_400_000)), (SMALL, targz(40_001))])
async def test_download_of_an_object_changed_between_attempts_restarts(make_site, old, new, digests):
    site = await make_site(old, digests=digests)

    def cut_then_replace(response):
        site.store.body, site.store.etag, site.store.last_modified = new, '"v2"', None
        return response.cut(len(old) * 2 // 3)

    site.store.script = [cut_then_replace]
    result = await site.download()
    assert completed(result, site, new)
    assert result.file.validator.etag == '"v2"'
    assert site.partial_files() == []


async def test_download_with_an_ignored_range_restarts_at_byte_zero(make_site):
    site = await make_site(LARGE)
    site.store.script = [
        cut(2_000_000),
        lambda response: replace(site.store.respond(replace(site.store.requests[0])), status=200),
    ]
    result = await site.download()
    assert completed(result, site, LARGE)
    assert result.downloaded_bytes == len(LARGE) + 2_000_000


async def test_download_restart_of_a_small_body_does_not_append_to_the_first_attempt(make_site):
    site = await make_site(SMALL, etag=None, last_modified=None, digests=())
    site.store.script = [cut(20_000)]
    result = await site.download()
    assert completed(result, site, SMALL)
    assert (result.attempts, site.partial_files()) == (2, [])


async def test_download_without_validators_does_not_resume_an_earlier_run(make_site):
    site = await make_site(SMALL, etag=None, last_modified=None, digests=())
    site.store.script = [cut(20_000)] * POLICY.max_attempts
    assert (await site.download()).outcome is Outcome.FAILED
    result = await site.download()
    assert completed(result, site, SMALL)
    assert (result.attempts, result.resumed_from_bytes, site.partial_files()) == (1, 0, [])


async def test_download_with_a_206_from_a_different_byte_restarts(make_site):
    site = await make_site(LARGE)

    def shifted(response):
        size = len(LARGE)
        body = LARGE[1_000_001:]
        return replace(response, body=body, length=len(body)).with_headers(
            Content_Range=f"bytes 1000001-{size - 1}/{size}"
        )

    site.store.script = [cut(1_000_000), shifted]
    assert completed(await site.download(), site, LARGE)
    assert site.store.ranges == [None, "bytes=1000000-", None]


async def test_download_after_a_416_restarts(make_site):
    site = await make_site(LARGE)
    site.store.script = [cut(1_000_000), status(416)]
    assert completed(await site.download(), site, LARGE)
    assert site.scheduled[-1][0] is Reason.OBJECT_CHANGED
    assert site.store.ranges == [None, "bytes=1000000-", None]


async def test_download_without_validators_requests_no_range(make_site):
    site = await make_site(LARGE, etag=None, last_modified=None)
    site.store.script = [cut(2_000_000)]
    assert completed(await site.download(), site, LARGE)
    assert site.store.ranges == [None, None]


async def test_download_with_only_a_weak_etag_requests_no_range(make_site):
    site = await make_site(LARGE, etag='W/"v1"', last_modified=None)
    site.store.script = [cut(2_000_000)]
    assert completed(await site.download(), site, LARGE)
    assert site.store.ranges == [None, None]


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_download_with_an_etag_that_is_not_text_completes_without_it(make_site, body):
    site = await make_site(body, etag='"\udce9"', last_modified=None)
    result = await site.download()
    assert completed(result, site, body)
    assert result.file.validator == Validator()


async def test_download_with_a_weak_etag_and_a_date_requests_no_range(make_site):
    site = await make_site(LARGE, etag='W/"v1"')
    site.store.script = [cut(2_000_000)]
    assert completed(await site.download(), site, LARGE)
    assert site.store.ranges == [None, None]


def flipped(response):
    middle = len(response.body) // 2
    corrupt = bytearray(response.body)
    corrupt[middle] ^= 1
    return replace(response, body=bytes(corrupt))


@pytest.mark.parametrize("body", [SMALL, LARGE])
@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("crc32c",), ("md5",)])
async def test_download_with_a_checksum_mismatch_restarts_once(make_site, body, digests):
    site = await make_site(body, digests=digests)
    site.store.script = [flipped]
    result = await site.download()
    assert completed(result, site, body)
    assert [reason for reason, _ in site.scheduled] == [Reason.CHECKSUM_MISMATCH]


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_download_with_permanent_checksum_mismatch_fails_without_a_file(make_site, body):
    site = await make_site(body)
    site.store.script = [flipped] * 9
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.CHECKSUM_MISMATCH)
    assert (result.attempts, result.file) == (POLICY.max_attempts, None)
    assert (site.files(), site.partial_files()) == ({}, [])


async def test_download_without_digest_detects_a_flipped_byte_by_the_checksum_in_the_archive(make_site):
    site = await make_site(LARGE, digests=())
    site.store.script = [flipped]
    assert completed(await site.download(), site, LARGE)
    assert [reason for reason, _ in site.scheduled] == [Reason.CORRUPT_CONTENT]


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ()])
@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_download_of_a_body_one_byte_short_with_a_matching_length_restarts(make_site, body, digests):
    site = await make_site(body, digests=digests)
    site.store.script = [lambda response: replace(response, body=body[:-1], length=len(body) - 1)]
    assert completed(await site.download(), site, body)
    assert len(site.scheduled) == 1


async def test_download_of_a_chunked_body_without_length_completes(make_site):
    site = await make_site(LARGE, chunked=True)
    result = await site.download()
    assert completed(result, site, LARGE)
    assert site.progress[-1][:2] == (len(LARGE), None)


async def test_download_of_a_chunked_body_cut_midway_resumes(make_site):
    site = await make_site(LARGE, chunked=True, digests=())
    site.store.script = [cut(1_500_000)]
    assert completed(await site.download(), site, LARGE)
    assert site.store.sent_bytes == len(LARGE)


async def test_download_of_a_chunked_body_takes_the_length_from_content_range(make_site):
    site = await make_site(LARGE, chunked=True, digests=())

    def only_some(response):
        start = len(LARGE) - len(response.body)
        return replace(response, body=response.body[:1000], length=1000).with_headers(
            Content_Range=f"bytes {start}-{start + 999}/{len(LARGE)}"
        )

    site.store.script = [cut(1_500_000), only_some]
    assert completed(await site.download(), site, LARGE)
    assert [reason for reason, _ in site.scheduled] == [Reason.TRUNCATED, Reason.TRUNCATED]


@pytest.mark.parametrize("code", [400, 403])
async def test_download_with_an_expired_url_renews_it_and_resumes_at_the_same_byte(make_site, code):
    site = await make_site(LARGE)
    expired = status(code, b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>")
    site.store.script = [cut(1_000_000), expired, cut(1_000_000), expired, expired]
    result = await site.download()
    assert completed(result, site, LARGE)
    assert site.store.sent_bytes - 3 * 61 == len(LARGE)
    assert site.store.signed == 4
    assert site.store.ranges[-1] == "bytes=2000000-"
    assert len({request.target for request in site.store.requests}) == 4


async def test_download_with_a_url_past_its_expiry_renews_it_before_the_request(make_site):
    site = await make_site(SMALL, expires="1")
    site.store.script = [cut(10_000)]
    assert completed(await site.download(), site, SMALL)
    assert site.store.signed == len(site.store.requests) == 2


async def test_download_with_urls_rejected_for_ever_fails_at_the_limit(make_site):
    site = await make_site(SMALL)
    site.store.script = [status(403)] * 50
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.URL_EXPIRED)
    assert len(site.store.requests) == POLICY.max_attempts + POLICY.max_free_url_renewals == result.attempts


async def test_download_sends_the_signed_url_unchanged_and_no_token(make_site):
    site = await make_site(SMALL)
    await site.download()
    assert site.store.requests[0].target == (
        "/bucket/task.tar.gz?GoogleAccessId=me&Expires=9999999999&Signature=can%2Fary1%3D"
    )
    assert "authorization" not in site.store.requests[0].headers


async def test_download_with_a_404_of_the_storage_retries_with_a_new_url(make_site):
    site = await make_site(SMALL)
    site.store.script = [status(404)]
    assert completed(await site.download(), site, SMALL)
    assert site.store.signed == 2


async def test_result_of_failure_is_not_available_only_if_the_provider_states_it():
    output = job_output("p", "j", "t", Kind.ARCHIVE)
    failure = ApiError(Reason.NOT_FOUND, "no results")
    result = result_of_failure(output, failure)
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.NOT_FOUND)
    failure.is_absent = True
    result = result_of_failure(output, failure)
    assert (result.outcome, result.reason) == (Outcome.SKIPPED, Reason.NOT_AVAILABLE)
    storage = TransferError(Reason.NOT_FOUND, "HTTP 404")
    assert result_of_failure(output, storage).outcome is Outcome.FAILED


@pytest.mark.parametrize(("code", "reason"), [(410, Reason.REJECTED), (405, Reason.REJECTED)])
async def test_download_with_a_permanent_status_fails_without_retry(make_site, code, reason):
    site = await make_site(SMALL)
    site.store.script = [status(code)]
    result = await site.download()
    assert (result.outcome, result.reason, result.attempts) == (Outcome.FAILED, reason, 1)


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
async def test_download_from_a_failing_server_fails_at_the_limit_with_the_delays_of_the_policy(
    make_site, code
):
    site = await make_site(SMALL)
    site.store.script = [status(code)] * 9
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.SERVER_ERROR)
    assert result.attempts == POLICY.max_attempts == len(site.store.requests)
    assert site.timeline.slept == [1.0, 2.0]
    assert site.scheduled == [(Reason.SERVER_ERROR, 1.0), (Reason.SERVER_ERROR, 2.0)]


async def test_download_with_retry_after_waits_up_to_the_cap(make_site):
    site = await make_site(SMALL)
    site.store.script = [status(429, Retry_After="17")]
    result = await site.download()
    assert completed(result, site, SMALL)
    assert site.timeline.now - 1000 >= 17
    site.store.script = [status(503, Retry_After="100000")]
    assert (await site.download(name="second")).outcome is Outcome.COMPLETED
    assert 300 <= site.timeline.now - 1017 < 320


async def test_download_with_a_429_starts_the_cooldown_of_the_host(make_site):
    site = await make_site(SMALL)
    site.store.script = [status(429, Retry_After="17")]

    async def at_once(_):
        """Return at once: only the cooldown of the host waits."""

    site.set_context(sleep=at_once)
    assert completed(await site.download(), site, SMALL)
    assert site.timeline.slept == [17.0]


async def test_download_cancelled_leaves_a_partial_file_that_the_next_run_resumes(make_site):
    site = await make_site(LARGE)
    site.store.script = [lambda response: replace(response, hold_at=2_345_678)]
    downloading = asyncio.create_task(site.download())
    await site.arrived(2_345_678)
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert len(site.partial_files()) == 2
    result = await site.download()
    assert completed(result, site, LARGE)
    assert result.resumed_from_bytes == 2_345_678
    assert site.store.ranges == [None, "bytes=2345678-"]
    assert result.downloaded_bytes == len(LARGE) - 2_345_678
    assert site.partial_files() == []


async def test_download_cancelled_releases_the_reserved_disk_space(make_site):
    site = await make_site(LARGE)
    site.store.script = [lambda response: replace(response, hold_at=2_345_678)]
    downloading = asyncio.create_task(site.download())
    await site.arrived(2_345_678)
    assert site.storage.state.reservations.reserved_bytes >= len(LARGE) - 2_345_678
    downloading.cancel()
    await asyncio.wait([downloading])
    assert site.storage.state.reservations.reserved_bytes == 0


async def test_download_cancelled_with_rejected_content_raises_the_cancellation(make_site):
    site = await make_site(b"<html>" + b" " * 5000)
    site.store.script = [lambda response: replace(response, hold_at=3000)]
    downloading = asyncio.create_task(site.download())
    await site.arrived(3000)
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading


async def test_download_cancelled_between_attempts_raises_the_cancellation(make_site):
    site = await make_site(SMALL)
    site.store.script = [status(503)]

    async def endless(_):
        site.timeline.sleep_started.set()
        await asyncio.Event().wait()

    site.set_context(sleep=endless)
    downloading = asyncio.create_task(site.download())
    await site.timeline.sleep_started.wait()
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading


async def test_download_of_an_object_replaced_since_the_last_run_restarts(make_site):
    site = await make_site(LARGE)
    site.store.script = [cut(2_000_000), *[status(410)]]
    assert (await site.download()).outcome is Outcome.FAILED
    site.store.body, site.store.etag, site.store.last_modified = targz(3_000_000), '"v2"', None
    result = await site.download()
    assert completed(result, site, site.store.body)
    assert result.resumed_from_bytes == 0
    assert site.store.ranges[-1] == "bytes=2000000-"


async def test_download_of_a_small_body_creates_no_partial_file(make_site, monkeypatch):
    site = await make_site(SMALL)
    partial_file = type(site.storage.partial_file(site.output))
    monkeypatch.setattr(partial_file, "_create", lambda *_: pytest.fail("a partial file was created"))
    assert completed(await site.download(), site, SMALL)


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_download_ignores_bytes_after_the_announced_end(make_site, body):
    site = await make_site(body)
    site.store.script = [
        lambda response: replace(response, body=body + b"\0" * 100_000, length=None).with_headers(
            x_goog_stored_content_length=len(body)
        )
    ]
    result = await site.download()
    assert completed(result, site, body)
    assert (result.attempts, site.scheduled) == (1, [])


async def test_download_of_an_error_page_fails_without_a_file(make_site):
    site = await make_site(SMALL)
    error_page = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>" + b" " * 2_000_000
    site.store.script = [
        lambda response: replace(response, headers={}, body=error_page, length=len(error_page))
    ] * 9
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.UNEXPECTED_CONTENT)
    assert (site.files(), site.partial_files()) == ({}, [])


PAGE = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"


def as_object(body):
    """Return a script step that sends *body* with status 200 and the headers of an object."""
    return lambda response: replace(response, status=200, body=body, length=len(body)).with_headers(
        x_goog_hash=""
    )


@pytest.mark.parametrize("error_page", [PAGE, PAGE + b" " * 2_000_000, b""])
async def test_download_resume_with_an_error_page_keeps_the_partial_file(make_site, error_page):
    site = await make_site(LARGE)
    site.store.script = [cut(2_000_000), as_object(error_page)]
    result = await site.download()
    assert completed(result, site, LARGE)
    assert site.store.ranges == [None, "bytes=2000000-", "bytes=2000000-"]
    assert [reason for reason, _ in site.scheduled] == [Reason.TRUNCATED, Reason.UNEXPECTED_CONTENT]


async def test_download_logs_a_restart_only_at_byte_zero(make_site, caplog):
    site = await make_site(LARGE)
    site.store.script = [cut(2_000_000), as_object(PAGE)]
    await site.download()
    assert "transfer.restarted" not in caplog.text
    site.store.script = [flipped]
    await site.download(name="second")
    assert caplog.text.count("transfer.restarted") == 1


async def test_download_with_error_pages_until_the_limit_keeps_the_partial_file_for_the_next_run(make_site):
    site = await make_site(LARGE)
    site.store.script = [cut(2_000_000)] + [as_object(PAGE)] * 9
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.UNEXPECTED_CONTENT)
    assert result.attempts == POLICY.max_attempts + 1
    site.store.script = []
    result = await site.download()
    assert completed(result, site, LARGE)
    assert result.resumed_from_bytes == 2_000_000
    assert result.downloaded_bytes == len(LARGE) - 2_000_000


async def test_download_of_a_small_replacement_does_not_append_to_the_partial_file(make_site):
    site = await make_site(LARGE, digests=())
    site.store.script = [cut(2_000_000), as_object(SMALL)]
    assert completed(await site.download(), site, SMALL)
    assert site.partial_files() == []


async def test_download_with_a_partial_file_that_is_not_an_archive_restarts(make_site):
    site = await make_site(LARGE)
    site.store.script = [cut(2_000_000), status(410)]
    await site.download()
    (data,) = site.storage.state.partial_folder.glob("*.part")
    data.write_bytes(PAGE.ljust(2_000_000))
    assert completed(await site.download(), site, LARGE)


async def test_download_of_an_object_stored_as_gzip_commits_the_stored_bytes(make_site):
    site = await make_site(LARGE)
    plain = {"x_goog_stored_content_encoding": "gzip", "x_goog_stored_content_length": len(LARGE)}

    def transcoded(response):
        return replace(response, body=b"unpacked" * 1000, length=None).with_headers(**plain)

    def stored(response):
        return response.with_headers(Content_Encoding="gzip", **plain)

    site.store.script = [transcoded, stored]
    result = await site.download()
    assert completed(result, site, LARGE)
    assert [request.headers["accept-encoding"] for request in site.store.requests] == ["identity", "gzip"]
    assert result.attempts == 1


def png(size):
    """Return the chunks of a PNG, without an image."""
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    return b"\x89PNG\r\n\x1a\n" + size.to_bytes(4, "big") + b"teSt" + content + bytes(8) + b"IEND\xaeB`\x82"


PICTURE = png(2_048_000)
SMALL_PICTURE = png(9000)
DOCUMENT = b'{"type": "FeatureCollection", "features": [' + b" " * 2_000_000 + b"]}"


@pytest.mark.parametrize(
    ("kind", "body", "content_type"),
    [
        (Kind.QUICKLOOK, PICTURE, "image/png"),
        (Kind.QUICKLOOK, SMALL_PICTURE, "image/png"),
        (Kind.GEOJSON, DOCUMENT, "application/json"),
        (Kind.GEOJSON, b'{"type": "FeatureCollection", "features": []}', "application/json"),
    ],
)
@pytest.mark.parametrize("at", [40, 8000, 1_500_000])
async def test_download_from_the_api_restarts_after_a_cut(make_site, kind, body, content_type, at):
    site = await make_site(body, digests=(), content_type=content_type, etag=None, last_modified=None)
    site.store.script = [cut(min(at, len(body) - 1))]
    result = await site.download(remote_file=site.api_file(), kind=kind)
    assert completed(result, site, body)
    assert (result.attempts, site.store.ranges) == (2, [None, None])
    assert site.partial_files() == []


async def test_download_from_the_api_that_fails_leaves_no_partial_file(make_site):
    site = await make_site(PICTURE, digests=(), content_type="image/png")
    site.store.script = [cut(1_500_000)] * 9
    result = await site.download(remote_file=site.api_file(), kind=Kind.QUICKLOOK)
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.TRUNCATED)
    assert (site.files(), site.partial_files()) == ({}, [])


async def test_download_of_a_quicklook_without_length_stops_at_the_maximum_size(make_site):
    site = await make_site(PICTURE * 4, digests=(), content_type="image/png", chunked=True)
    site.set_context(limits=Limits(max_bytes={Kind.QUICKLOOK: 1_200_000}))
    result = await site.download(remote_file=site.api_file(), kind=Kind.QUICKLOOK)
    assert (result.outcome, result.reason, result.attempts) == (Outcome.FAILED, Reason.TOO_LARGE, 1)
    assert result.downloaded_bytes < 4_000_000
    assert (site.files(), site.partial_files()) == ({}, [])


async def test_download_of_an_archive_without_length_stops_at_the_maximum_size(make_site):
    site = await make_site(LARGE, digests=(), chunked=True)
    site.set_context(limits=Limits(max_bytes={Kind.ARCHIVE: 1_200_000}))
    result = await site.download()
    assert (result.outcome, result.reason, result.attempts) == (Outcome.FAILED, Reason.TOO_LARGE, 1)
    assert site.files() == {}
    again = await site.download()
    assert (again.reason, again.attempts) == (Reason.TOO_LARGE, 1)
    assert again.resumed_from_bytes + again.downloaded_bytes < 2_000_000
    site.set_context(limits=Limits())
    assert completed(await site.download(), site, LARGE)
    assert site.store.ranges[-1] is not None


async def test_download_of_an_archive_announced_above_the_maximum_size_does_not_start(make_site):
    site = await make_site(LARGE)
    site.set_context(limits=Limits(max_bytes={Kind.ARCHIVE: len(LARGE) - 1}, segment_min_size_bytes=1 << 20))
    result = await site.download()
    assert (result.outcome, result.reason, result.downloaded_bytes) == (Outcome.FAILED, Reason.TOO_LARGE, 0)
    assert (site.files(), site.partial_files()) == ({}, [])


async def test_download_that_stalls_resumes_without_loss(make_site):
    site = await make_site(LARGE)
    site.set_context(limits=Limits(speed_limit_bytes_per_s=1e12, speed_time_s=1e-9))
    result = await site.download()
    assert completed(result, site, LARGE)
    assert {reason for reason, _ in site.scheduled} == {Reason.STALLED}
    assert result.downloaded_bytes == len(LARGE)


async def test_download_of_a_file_committed_but_not_recorded_adopts_it(make_site):
    site = await make_site(LARGE)
    first = await site.download(recorded=False)
    second = await site.download()
    assert (second.outcome, second.file) == (Outcome.COMPLETED, first.file)
    assert (second.downloaded_bytes, second.resumed_from_bytes) == (0, len(LARGE))
    assert len(site.store.requests) == 1
    assert site.partial_files() == []


async def test_download_with_a_committed_file_of_a_different_object_downloads_again(make_site):
    site = await make_site(LARGE)
    await site.download(recorded=False)
    site.store.body, site.store.path = targz(3_000_000), "/bucket/second-run.tar.gz"
    result = await site.download()
    assert completed(result, site, site.store.body)
    assert site.partial_files() == []


async def test_download_with_a_committed_file_that_was_deleted_downloads_again(make_site):
    site = await make_site(LARGE)
    await site.download(recorded=False)
    (site.storage.destination.root / "output.tar.gz").unlink()
    assert completed(await site.download(), site, LARGE)
    assert len(site.store.requests) == 2


async def test_download_with_a_failed_url_renewal_fails_and_counts_the_attempt(make_site):
    site = await make_site(LARGE)
    remote_file = site.signed_url()
    sign = site.store.sign

    async def fail_later():
        if site.store.signed >= 1:
            raise ApiError(Reason.FORBIDDEN, "no")
        return await sign()

    remote_file._sign = fail_later
    site.store.script = [cut(1_000_000), status(403)]
    result = await site.download(remote_file=remote_file)
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.FORBIDDEN)
    assert result.attempts == 3
    assert len(site.partial_files()) == 2


@pytest.mark.parametrize("step", ["create", "write"])
@pytest.mark.parametrize("times", [1, 3])
async def test_download_cancelled_during_a_write_keeps_all_received_bytes(
    make_site, monkeypatch, step, times
):
    site = await make_site(LARGE)
    writing, may_end = asyncio.Event(), asyncio.Event()
    write = getattr(PartialFile, step)

    async def slow(partial_file, what, **how):
        writing.set()
        await may_end.wait()
        await write(partial_file, what, **how)

    monkeypatch.setattr(PartialFile, step, slow)
    downloading = asyncio.ensure_future(site.download())
    await writing.wait()
    for _ in range(times):
        downloading.cancel()
        await wait_until_idle()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    monkeypatch.undo()
    received_bytes, _, _ = site.progress[-1]
    assert received_bytes >= BLOCK_BYTES
    (data,) = site.storage.state.partial_folder.glob("*.part")
    assert LARGE.startswith(data.read_bytes())
    again = await site.download()
    assert completed(again, site, LARGE)
    assert again.resumed_from_bytes == received_bytes


@pytest.mark.parametrize("step", ["create", "write"])
async def test_download_cancelled_during_a_failed_write_writes_nothing_after_the_gap(
    make_site, monkeypatch, step
):
    site = await make_site(LARGE)
    site.store.script = [lambda response: replace(response, hold_at=BLOCK_BYTES + 100_000)]
    writing, may_end = asyncio.Event(), asyncio.Event()
    write = getattr(PartialFile, step)

    async def refused(partial_file, what, **how):
        if not writing.is_set():
            writing.set()
            await may_end.wait()
            raise DestinationError(Reason.DISK_FULL, "no room")
        await write(partial_file, what, **how)

    monkeypatch.setattr(PartialFile, step, refused)
    downloading = asyncio.ensure_future(site.download())
    await writing.wait()
    downloading.cancel()
    await wait_until_idle()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    monkeypatch.undo()
    site.store.release.set()
    for data in site.storage.state.partial_folder.glob("*.part"):
        assert LARGE.startswith(data.read_bytes())
    assert completed(await site.download(), site, LARGE)


def open_files(folder):
    found = [Path(entry.path).resolve() for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]
    return [path for path in found if path.is_relative_to(folder)]


async def test_download_cancelled_on_a_full_disk_leaves_no_file_open(make_site, monkeypatch):
    site = await make_site(LARGE)
    site.store.script = [lambda response: replace(response, hold_at=BLOCK_BYTES + 200_000)]
    write, writes = PartialFile.write, []

    async def refused(partial_file, block):
        writes.append(block)
        if len(writes) > 1:
            raise DestinationError(Reason.DISK_FULL, "no room")
        await write(partial_file, block)

    monkeypatch.setattr(PartialFile, "write", refused)
    downloading = asyncio.ensure_future(site.download())
    await site.arrived(BLOCK_BYTES + 200_000)
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    site.store.release.set()
    assert len(writes) == 2
    assert open_files(site.storage.state.path) == []


async def test_download_without_ranges_cancelled_twice_during_a_write_leaves_no_file(make_site, monkeypatch):
    site = await make_site(LARGE)
    site.store.script = [lambda response: replace(response, hold_at=BLOCK_BYTES + 100_000)]
    writing, may_end = asyncio.Event(), asyncio.Event()
    write_all = partial_file._write_all

    async def slow(stream, block):
        writing.set()
        await may_end.wait()
        return await write_all(stream, block)

    monkeypatch.setattr(partial_file, "_write_all", slow)
    downloading = asyncio.ensure_future(site.download(remote_file=site.api_file()))
    await writing.wait()
    for _ in range(2):
        downloading.cancel()
        await wait_until_idle()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert open_files(site.storage.state.path) == []
    assert site.partial_files() == []


async def test_download_cancelled_while_it_reserves_disk_space_releases_it(make_site, monkeypatch):
    site = await make_site(LARGE)
    site.store.script = [cut(2_000_000), status(410)]
    await site.download()
    asking, may_end, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop, resume = asyncio.get_running_loop(), PartialFile._resume

    def slow(partial_file, state):
        loop.call_soon_threadsafe(asking.set)
        may_end.wait(10)
        resume(partial_file, state)
        ended.set()

    monkeypatch.setattr(PartialFile, "_resume", slow)
    downloading = asyncio.ensure_future(site.download())
    await asking.wait()
    downloading.cancel()
    await wait_until_idle()
    may_end.set()
    await asyncio.wait([downloading])
    await asyncio.to_thread(ended.wait, 10)
    assert site.storage.state.reservations.reserved_bytes == 0
