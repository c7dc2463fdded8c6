"""Tests of segmented downloads with cuts, changed objects, error pages and cancellation."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.models import Outcome, Reason
from bulkdl.state.partial_file import PartialFile
from bulkdl.transfer.context import Limits
from support.idle import wait_until_idle
from support.scripted_store import goog_hash
from support.transfer_objects import targz

BODY = targz(12_000_000)
OTHER = targz(11_000_000)
LIMITS = Limits(segment_min_size_bytes=1 << 20, connections=4)


@pytest.fixture
def make_site(make_site):
    """Create a site whose downloads use up to four connections."""

    async def make(body=BODY, **options):
        site = await make_site(body, **options)
        site.set_context(limits=LIMITS, permits=ConcurrencyLimiter(4))
        return site

    return make


def completed(result, site, body=BODY):
    assert (result.outcome, result.detail) == (Outcome.COMPLETED, "")
    assert site.files() == {result.file.key: body}
    assert str(result.file.digest) == goog_hash(body, "crc32c")
    assert site.partial_files() == []
    return True


class EndlessScript:
    """A script that does not end: *change* gets the number of the request and the correct response."""

    def __init__(self, change):
        self._change, self._numbers = change, itertools.count(1)

    def __bool__(self):
        return True

    def pop(self, _):
        number = next(self._numbers)
        return lambda response: self._change(number, response)


def range_requests(site):
    return [request for request in site.store.requests if request.range]


async def cancel_at(site, at_bytes):
    """Cancel a download after *at_bytes*; its partial file stays."""
    site.store.script = EndlessScript(lambda _, response: replace(response, hold_at=700_000))
    downloading = asyncio.create_task(site.download())
    await site.arrived(at_bytes)
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    site.store.release.set()
    site.store.script = []


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("md5",), ("crc32c",), ()])
async def test_segments_over_several_connections_complete_the_archive(make_site, digests):
    site = await make_site(digests=digests)
    result = await site.download()
    assert completed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert range_requests(site)
    assert all(request.headers["if-range"] == '"v1"' for request in range_requests(site))


async def test_segments_with_a_fast_first_connection_open_no_further_one(make_site):
    site = await make_site()
    site.set_context(
        limits=replace(LIMITS, segment_if_slower_than_bytes_per_s=1), permits=ConcurrencyLimiter(4)
    )
    assert completed(await site.download(), site)
    assert range_requests(site) == []


async def test_segments_with_a_slow_first_connection_open_further_ones(make_site):
    site = await make_site()
    site.set_context(
        limits=replace(LIMITS, segment_if_slower_than_bytes_per_s=1), permits=ConcurrencyLimiter(4)
    )
    site.store.script = [lambda response: replace(response, hold_at=700_000)]
    downloading = asyncio.create_task(site.download())
    await site.arrived(4_000_000)
    site.store.release.set()
    assert completed(await downloading, site)


async def test_segments_with_repeated_cuts_download_each_byte_once(make_site):
    site = await make_site()
    site.store.script = EndlessScript(lambda _, response: response.cut(300_000))
    result = await site.download()
    assert completed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert site.store.sent_bytes < len(BODY) * 1.1


@pytest.mark.parametrize("at", [0, 1, 100, 511, 513])
async def test_segments_with_an_early_cut_of_the_first_connection_leave_no_gap(make_site, at):
    site = await make_site()
    site.store.script = [lambda response: response.cut(at)]
    assert completed(await site.download(), site)


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("digests", [("crc32c", "md5"), ()])
async def test_segments_of_an_object_changed_midway_restart(make_site, number, digests):
    site = await make_site(digests=digests)

    def change(count, response):
        if count == number:
            site.store.body, site.store.etag, site.store.last_modified = OTHER, '"v2"', None
        return response.cut(500_000) if count <= number else response

    site.store.script = EndlessScript(change)
    assert completed(await site.download(), site, OTHER)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_segments_with_a_flipped_byte_report_a_checksum_mismatch(make_site, number):
    site = await make_site()

    def flip(count, response):
        if count != number:
            return response
        body = bytearray(response.body)
        body[1000] ^= 1
        return replace(response, body=bytes(body))

    site.store.script = EndlessScript(flip)
    assert completed(await site.download(), site)
    assert Reason.CHECKSUM_MISMATCH in {reason for reason, _ in site.scheduled}


async def test_segments_with_a_wrong_content_range_are_not_used(make_site):
    site = await make_site(digests=())

    def shift(count, response):
        if response.status != 206 or count > 6:
            return response
        text = response.headers["Content-Range"].partition("-")[0].removeprefix("bytes ")
        moved = f"bytes {int(text) + 1}-{int(text) + len(response.body)}/{len(BODY)}"
        return replace(response, body=BODY[int(text) + 1 :][: len(response.body)]).with_headers(
            Content_Range=moved
        )

    site.store.script = EndlessScript(shift)
    result = await site.download()
    assert result.outcome is Outcome.FAILED or completed(result, site)


async def test_segments_with_ignored_ranges_complete_the_archive(make_site):
    site = await make_site()
    whole_object = site.store.respond(type("request", (), {"range": None, "headers": {}}))
    site.store.script = EndlessScript(lambda count, response: response if count == 1 else whole_object)
    assert completed(await site.download(), site)


async def test_segments_with_an_expired_url_renew_it_for_all_connections(make_site):
    site = await make_site()

    def expire(count, response):
        if count in (3, 4, 5):
            return replace(response, status=403, headers={}, body=b"", length=0)
        return response.cut(1_000_000)

    site.store.script = EndlessScript(expire)
    result = await site.download()
    assert completed(result, site)
    assert 2 <= site.store.signed <= 4
    assert result.downloaded_bytes == len(BODY)


async def test_segments_cancelled_keep_all_received_bytes_for_the_next_run(make_site):
    site = await make_site()
    await cancel_at(site, 2_500_000)
    result = await site.download()
    assert completed(result, site)
    assert result.resumed_from_bytes >= 2_500_000
    assert result.downloaded_bytes == len(BODY) - result.resumed_from_bytes


async def test_segments_of_an_object_replaced_since_the_last_run_restart(make_site):
    site = await make_site()
    await cancel_at(site, 2_000_000)
    site.store.body, site.store.etag, site.store.last_modified = OTHER, '"v2"', None
    assert completed(await site.download(), site, OTHER)


@pytest.mark.parametrize("path", ["/bucket/task.tar.gz", "/bucket/other.tar.gz"])
async def test_segments_that_are_complete_are_committed_without_a_request_only_for_the_same_source(
    make_site, monkeypatch, path
):
    site = await make_site()
    committing = asyncio.Event()

    async def stopped(*_):
        committing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(PartialFile, "commit", stopped)
    downloading = asyncio.create_task(site.download())
    await committing.wait()
    downloading.cancel()
    await asyncio.wait([downloading])
    monkeypatch.undo()
    request = len(site.store.requests)
    if path != site.store.path:
        site.store.path, site.store.body, site.store.etag = path, OTHER, '"v2"'
    assert completed(await site.download(), site, site.store.body)
    assert (len(site.store.requests) == request) is (site.store.body is BODY)


PAGE = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"


def as_error_page(response):
    """Return an error page with status 200 and the headers of an object that supports segments."""
    body = PAGE.ljust(2 << 20)
    changed = replace(response, status=200, body=body, length=len(body))
    return changed.with_headers(Accept_Ranges="bytes", ETag='"v2"', x_goog_hash="")


async def test_segments_with_an_error_page_for_a_range_are_kept(make_site):
    site = await make_site()
    await cancel_at(site, 2_000_000)
    site.store.script = [as_error_page]
    result = await site.download()
    assert completed(result, site)
    assert result.resumed_from_bytes >= 2_000_000
    assert result.downloaded_bytes <= len(BODY) - result.resumed_from_bytes + (2 << 20)


async def test_download_resume_with_a_large_error_page_keeps_the_partial_file(make_site):
    site = await make_site()
    site.set_context(limits=replace(LIMITS, connections=1))
    site.store.script = [
        lambda response: response.cut(2_000_000),
        lambda response: replace(response, status=410),
    ]
    await site.download()
    site.set_context(limits=LIMITS)
    site.store.script = [as_error_page]
    result = await site.download()
    assert completed(result, site)
    assert result.resumed_from_bytes == 2_000_000
    assert site.store.ranges[2:] == ["bytes=2000000-", "bytes=2000000-"]


async def test_segments_cancelled_during_the_creation_of_the_file_keep_received_bytes(make_site, monkeypatch):
    site = await make_site()
    create, started, may_end = PartialFile.create, asyncio.Event(), asyncio.Event()

    async def slow(partial_file, stored, *, segmented=False):
        started.set()
        await may_end.wait()
        await create(partial_file, stored, segmented=segmented)

    monkeypatch.setattr(PartialFile, "create", slow)
    downloading = asyncio.create_task(site.download())
    await started.wait()
    downloading.cancel()
    await wait_until_idle()
    may_end.set()
    await asyncio.wait([downloading])
    monkeypatch.undo()
    result = await site.download()
    assert completed(result, site)
    assert result.resumed_from_bytes > 0


async def test_segments_with_a_lower_limit_end_connections_and_keep_their_bytes(make_site):
    site = await make_site()
    permits = ConcurrencyLimiter(4)
    site.set_context(limits=LIMITS, permits=permits)
    site.store.script = EndlessScript(lambda _, response: replace(response, hold_at=700_000))
    downloading = asyncio.create_task(site.download())
    await site.arrived(2_800_000)
    assert permits.in_use == 3  # the worker holds the permit of the first connection
    permits.resize(0)
    site.store.release.set()
    site.store.script = []
    result = await downloading
    assert completed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert permits.in_use == 0


async def test_segments_are_resumed_by_one_connection(make_site):
    site = await make_site()
    await cancel_at(site, 2_000_000)
    site.set_context(limits=Limits(connections=1), permits=ConcurrencyLimiter(1))
    assert completed(await site.download(), site)


async def test_segments_with_one_connection_do_not_create_a_segmented_file(make_site, monkeypatch):
    """Not even if the segments of an earlier run are invalid."""
    site = await make_site()
    await cancel_at(site, 2_000_000)
    site.set_context(limits=replace(LIMITS, connections=1), permits=ConcurrencyLimiter(1))
    create, created = PartialFile.create, []

    async def record_create(partial_file, stored, *, segmented=False):
        created.append(segmented)
        await create(partial_file, stored, segmented=segmented)

    monkeypatch.setattr(PartialFile, "create", record_create)
    site.store.script = [
        lambda response: response.with_headers(Content_Range=f"bytes 7-{len(BODY) - 1}/{len(BODY)}")
    ]
    assert completed(await site.download(), site)
    assert created == [False]


async def test_segments_from_a_failing_server_fail_at_the_limit(make_site):
    site = await make_site()
    dead = {"status": 503, "headers": {}, "body": b"", "length": 0}
    site.store.script = EndlessScript(
        lambda count, response: replace(response, **dead) if count > 3 else response.cut(400_000)
    )
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.SERVER_ERROR)
    assert len(site.store.requests) < 40
    assert site.files() == {}
    site.store.script = []
    assert completed(await site.download(), site)
