"""Tests of segmented downloads: permits, connections that end, and the order of their steps."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.errors import DestinationError
from bulkdl.models import Outcome, Reason
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.state.partial_file import PartialFile
from bulkdl.transfer import segments
from bulkdl.transfer.context import BodyReader, Limits
from bulkdl.transfer.remote_files import SignedUrlSource
from support.idle import wait_until_idle
from support.transfer_objects import POLICY, targz

MIB = 1 << 20
BODY = targz(9 * MIB)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(segments, "MIN_SEGMENT_BYTES", 256 << 10)
    monkeypatch.setattr(segments, "_SEGMENT_SIZE_RANGE", (512 << 10, 2 * MIB))


@pytest.fixture
def make_site(make_site, timeline):
    """Create a site whose downloads use up to *connections* connections."""

    async def open_site(body=BODY, *, connections=4, permits=None, **options):
        site = await make_site(body, **options)
        limits = Limits(segment_min_size_bytes=MIB, connections=connections)
        site.permits = permits or ConcurrencyLimiter(connections)
        site.permits.in_use = 1  # the permit of the worker
        site.set_context(limits=limits, permits=site.permits)
        return site

    return open_site


def completed(result, site, body=BODY):
    assert (result.outcome, result.reason) == (Outcome.COMPLETED, Reason.DOWNLOADED), result.detail
    assert site.files() == {"output.tar.gz": body}
    assert site.partial_files() == []
    assert site.permits.in_use == 1
    return True


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("md5",), ()])
async def test_segments_of_a_large_archive_use_conditional_ranges(make_site, digests):
    site = await make_site(digests=digests)
    assert completed(await site.download(), site)
    assert len([request for request in site.store.requests if request.range]) >= 2
    assert all(request.headers.get("if-range") == '"v1"' for request in site.store.requests if request.range)


async def test_segments_without_spare_permits_use_one_connection(make_site):
    site = await make_site(permits=ConcurrencyLimiter(1))
    assert completed(await site.download(), site)
    assert site.store.ranges == [None]


@pytest.mark.parametrize(
    "options",
    [{"etag": None, "last_modified": None}, {"chunked": True}, {"etag": 'W/"1"', "last_modified": None}],
)
async def test_download_of_an_object_without_validator_or_length_uses_one_connection(make_site, options):
    site = await make_site(**options)
    assert completed(await site.download(), site)
    assert site.store.ranges == [None]


async def test_download_of_a_small_archive_uses_one_connection(make_site):
    body = targz(MIB // 2)
    site = await make_site(body)
    assert completed(await site.download(), site, body)
    assert site.store.ranges == [None]


async def test_download_from_the_api_uses_one_connection_whatever_its_headers_announce(make_site):
    document = b'{"type": "FeatureCollection", "features": [' + b" " * 2 * MIB + b"]}"
    site = await make_site(document, content_type="application/json")
    result = await site.download(remote_file=site.api_file(), kind=Kind.GEOJSON)
    assert (result.outcome, result.attempts, site.store.ranges) == (Outcome.COMPLETED, 1, [None])


async def test_segments_with_cut_connections_download_each_byte_once(make_site):
    site = await make_site()
    site.store.script = [
        lambda response, at=at: response.cut(at) for at in (700_000, 300_000, 0, 100_000, 65_536)
    ]
    result = await site.download()
    assert completed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert result.attempts == 1 + len(site.scheduled) > 2


async def test_segments_with_a_flipped_byte_restart_once(make_site):
    site = await make_site()

    def flipped(response):
        body = bytearray(response.body)
        body[1000] ^= 1  # later bytes may be requested by another connection
        return response.with_headers().__class__(
            response.status, response.headers, bytes(body), response.length
        )

    site.store.script = [flipped]
    result = await site.download()
    assert completed(result, site)
    assert [reason for reason, _ in site.scheduled] == [Reason.CHECKSUM_MISMATCH]


async def test_segments_of_two_object_versions_are_never_mixed(make_site):
    site = await make_site()
    new = targz(9 * MIB + 4096)

    def change(response):
        site.store.body, site.store.etag = new, '"v2"'
        return response

    site.store.script = [lambda response: response, change]
    assert completed(await site.download(), site, new)


async def test_segments_from_a_server_that_stops_supporting_ranges_restart_with_one_connection(
    make_site,
):
    site = await make_site()
    respond = site.store.respond

    def ignore_range(request):
        request.headers = {key: value for key, value in request.headers.items() if key != "range"}
        return respond(request)

    site.store.respond = ignore_range
    assert completed(await site.download(), site)


async def test_segments_with_expired_urls_lose_no_bytes(make_site):
    site = await make_site()
    refused = []

    def expired(response):
        refused.append(response)
        return response.__class__(400, {"Content-Type": "application/xml"}, b"<Code>ExpiredToken</Code>", 25)

    site.store.script = [lambda response: response, expired, expired]
    result = await site.download()
    assert completed(result, site)
    assert len(refused) == 2
    assert result.downloaded_bytes == len(BODY)


async def test_segments_from_a_failing_storage_are_resumed_by_the_next_run(make_site):
    site = await make_site()
    respond = site.store.respond

    def fail_after_4_mib(request):
        response = respond(request)
        if site.store.sent_bytes > 4 * MIB:
            return response.__class__(503, {}, b"", 0)
        return response

    site.store.respond = fail_after_4_mib
    failed = await site.download()
    assert (failed.outcome, failed.reason) == (Outcome.FAILED, Reason.SERVER_ERROR)
    site.store.respond = respond
    before = site.store.sent_bytes
    again = await site.download()
    assert completed(again, site)
    assert again.resumed_from_bytes > 0
    assert again.resumed_from_bytes + again.downloaded_bytes == len(BODY)
    # Bytes of a shortened segment may have been sent already, up to the size of the buffers.
    assert site.store.sent_bytes - before - again.downloaded_bytes < 4 * (512 << 10)


async def test_segments_cancelled_release_permits_and_keep_received_bytes(make_site):
    site = await make_site()
    site.store.script = [lambda response: response.__class__(**{**vars(response), "hold_at": 2 * MIB})] * 8
    downloading = asyncio.ensure_future(site.download())
    await site.arrived(3 * MIB)
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert site.files() == {}
    assert site.permits.in_use == 1
    site.store.script = []
    site.store.release.set()
    again = await site.download()
    assert completed(again, site)
    assert again.resumed_from_bytes >= 2 * MIB
    assert again.resumed_from_bytes + again.downloaded_bytes == len(BODY)


@pytest.mark.parametrize("cut_at", [1_000_000, None])
async def test_segments_cancelled_by_a_failed_connection_during_a_write_lose_no_bytes(
    make_site, monkeypatch, cut_at
):
    """One connection is cut or waits for the disk, and another one fails permanently."""
    site = await make_site(connections=2)
    write_at, drain_buffered, error_from_response = (
        PartialFile.write_at,
        BodyReader.drain_buffered,
        SignedUrlSource.error_from_response,
    )
    finishing, refused, written = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_write(partial_file, start, chunks):
        await written.wait()
        return await write_at(partial_file, start, chunks)

    def recorded_drain(body):
        finishing.set()
        return drain_buffered(body)

    async def recorded_refusal(remote_file, response):
        failure = await error_from_response(remote_file, response)
        refused.set()
        return failure

    monkeypatch.setattr(PartialFile, "write_at", slow_write)
    monkeypatch.setattr(BodyReader, "drain_buffered", recorded_drain)
    monkeypatch.setattr(SignedUrlSource, "error_from_response", recorded_refusal)
    rejected = {"status": 410, "headers": {}, "body": b"gone", "length": 4, "hold_at": 0}
    site.store.script = [
        lambda response: replace(response, cut_at=cut_at),
        lambda response: replace(response, **rejected),
    ]
    downloading = asyncio.ensure_future(site.download())
    await (finishing.wait() if cut_at else site.arrived(MIB))
    site.store.release.set()
    await refused.wait()
    await wait_until_idle()  # the failure cancels the other connection
    written.set()
    first = await downloading
    assert first.reason is Reason.REJECTED
    assert first.downloaded_bytes >= 1_000_000
    monkeypatch.undo()
    again = await site.download()
    assert completed(again, site)
    assert again.resumed_from_bytes == first.downloaded_bytes
    assert again.downloaded_bytes == len(BODY) - first.downloaded_bytes


async def test_segments_of_an_error_page_are_not_written(make_site):
    page = b"<html>" + bytes(2 * MIB)
    site = await make_site(page, digests=())
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.UNEXPECTED_CONTENT)
    assert site.files() == {}
    assert site.partial_files() == []


async def test_segments_with_fewer_permits_end_connections(make_site):
    permits = ConcurrencyLimiter(4)
    site = await make_site(permits=permits)

    def shrink(response):
        permits.resize(1)
        return response

    site.store.script = [lambda response: response] * 3 + [shrink]
    assert completed(await site.download(), site)


async def test_segments_left_by_the_last_connection_are_received_by_the_first_one(make_site, monkeypatch):
    monkeypatch.setattr(segments, "MIN_SEGMENT_BYTES", 3 * MIB)
    permits = ConcurrencyLimiter(2)
    site = await make_site(connections=2, permits=permits)
    finish, done = segments.SegmentScheduler.finish, asyncio.Event()

    def recorded_finish(board, span):
        finish(board, span)
        done.set()

    monkeypatch.setattr(segments.SegmentScheduler, "finish", recorded_finish)
    site.store.script = [lambda response: response, lambda response: replace(response, hold_at=700_000)]
    downloading = asyncio.ensure_future(site.download())
    await site.arrived(len(BODY) - 2 * MIB + 700_000)
    await done.wait()  # no segment is left for the first connection
    permits.resize(1)
    site.store.release.set()
    assert completed(await downloading, site)
    assert site.scheduled == []


async def test_segments_without_a_divisible_rest_open_no_connection(make_site, monkeypatch):
    class CountingLimiter(ConcurrencyLimiter):
        request = 0

        async def acquire_spare(self):
            self.request += 1
            await super().acquire_spare()

    monkeypatch.setattr(segments, "MIN_SEGMENT_BYTES", 16 * MIB)
    permits = CountingLimiter(4)
    site = await make_site(permits=permits)
    site.store.script = [lambda response: replace(response, hold_at=2 * MIB)]
    downloading = asyncio.ensure_future(site.download())
    await site.arrived(2 * MIB)
    await wait_until_idle()
    assert permits.request == 0
    site.store.release.set()
    assert completed(await downloading, site)
    assert permits.request == 0


async def test_segments_on_a_full_disk_report_it_from_a_cut_connection(make_site, monkeypatch):
    site = await make_site(permits=ConcurrencyLimiter(1))
    write_at = PartialFile.write_at

    async def full(partial_file, start, chunks):
        if start + sum(map(len, chunks)) == 1_500_000:
            raise DestinationError(Reason.DISK_FULL, "no room")
        return await write_at(partial_file, start, chunks)

    monkeypatch.setattr(PartialFile, "write_at", full)
    site.store.script = [lambda response: response.cut(1_500_000)]
    result = await site.download()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.DISK_FULL)
    assert site.scheduled == []


async def test_segments_close_a_cut_first_connection_before_the_retry(make_site, monkeypatch):
    site = await make_site()
    open_response, responses, closed = SignedUrlSource.open, [], []

    @asynccontextmanager
    async def recorded_open(remote_file, headers):
        async with open_response(remote_file, headers) as (response, prefetched):
            responses.append(response)
            yield response, prefetched

    async def recorded_sleep(_):
        closed.append(responses[0].closed)

    monkeypatch.setattr(SignedUrlSource, "open", recorded_open)
    site.set_context(sleep=recorded_sleep)
    site.store.script = [lambda response: response.cut(700_000)]
    assert completed(await site.download(), site)
    assert closed == [True]


async def test_segments_cancelled_while_a_connection_fails_raise_the_cancellation(make_site, monkeypatch):
    site = await make_site(connections=2)
    error_from_response = SignedUrlSource.error_from_response

    async def cancelling(remote_file, response):
        failure = await error_from_response(remote_file, response)
        downloading.cancel()
        return failure

    monkeypatch.setattr(SignedUrlSource, "error_from_response", cancelling)
    site.store.script = [
        lambda response: replace(response, hold_at=MIB),
        lambda response: replace(response, status=410),
    ]
    downloading = asyncio.ensure_future(site.download())
    await asyncio.wait([downloading])
    assert downloading.cancelled()
    assert site.permits.in_use == 1


async def test_segments_from_a_server_with_one_connection_complete_over_the_first(make_site):
    alone = asyncio.Event()

    class RecordingLimiter(ConcurrencyLimiter):
        def release(self):
            super().release()
            if len(site.scheduled) == 3 * (POLICY.max_attempts - 1) and self.in_use == 1:
                alone.set()

    site = await make_site(permits=RecordingLimiter(4))
    respond = site.store.respond

    def one_at_a_time(request):
        response = respond(request)
        is_one_more = request.range and not site.store.release.is_set()
        return response.__class__(503, {}, b"", 0) if is_one_more else response

    site.store.respond = one_at_a_time
    site.store.script = [lambda response: replace(response, hold_at=MIB)]
    downloading = asyncio.ensure_future(site.download())
    await alone.wait()
    site.store.release.set()
    assert completed(await downloading, site)
    assert {reason for reason, _ in site.scheduled} == {Reason.SERVER_ERROR}
    assert len(site.scheduled) == 3 * (POLICY.max_attempts - 1)
