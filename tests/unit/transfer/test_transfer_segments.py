"""Large objects over several connections: all that holds for one connection holds for eight."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.destinations.local.partial_file import PartialFile
from bulkdl.errors import DestinationError
from bulkdl.models import Kind, Outcome, Reason
from bulkdl.transfer import segment_scheduler
from bulkdl.transfer.body_reader import BodyReader
from bulkdl.transfer.context import Limits
from bulkdl.transfer.remote_files import SignedUrlSource
from support.idle import wait_until_idle
from support.transfer_objects import POLICY, targz

MIB = 1 << 20
BODY = targz(9 * MIB)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(segment_scheduler, "MIN_SEGMENT_BYTES", 256 << 10)
    monkeypatch.setattr(segment_scheduler, "_SEGMENT_SIZE_RANGE", (512 << 10, 2 * MIB))


@pytest.fixture
def many(yard, timeline):
    """A yard whose fetches may have *connections*."""

    async def open_yard(body=BODY, *, connections=4, permits=None, **facts):
        made = await yard(body, **facts)
        limits = Limits(segment_min_size_bytes=MIB, connections=connections)
        made.permits = permits or ConcurrencyLimiter(connections)
        made.permits.in_use = 1  # that of the worker itself
        made.set_context(limits=limits, permits=made.permits)
        return made

    return open_yard


def whole(result, yard, body=BODY):
    assert (result.outcome, result.reason) == (Outcome.COMPLETED, Reason.DOWNLOADED), result.detail
    assert yard.files() == {"output.tar.gz": body}
    assert yard.parts() == []
    assert yard.permits.in_use == 1
    return True


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("md5",), ()])
async def test_a_large_archive_comes_over_several_connections_and_is_checked(many, digests):
    yard = await many(digests=digests)
    assert whole(await yard.fetch(), yard)
    assert len([one for one in yard.store.asked if one.range]) >= 2
    assert all(one.headers.get("if-range") == '"v1"' for one in yard.store.asked if one.range)


async def test_without_spare_permits_one_connection_does_it_all(many):
    yard = await many(permits=ConcurrencyLimiter(1))
    assert whole(await yard.fetch(), yard)
    assert yard.store.ranges == [None]


@pytest.mark.parametrize(
    "facts",
    [{"etag": None, "last_modified": None}, {"chunked": True}, {"etag": 'W/"1"', "last_modified": None}],
)
async def test_what_cannot_be_had_in_pieces_with_proof_comes_over_one(many, facts):
    yard = await many(**facts)
    assert whole(await yard.fetch(), yard)
    assert yard.store.ranges == [None]


async def test_a_small_archive_is_not_divided(many):
    body = targz(MIB // 2)
    yard = await many(body)
    assert whole(await yard.fetch(), yard, body)
    assert yard.store.ranges == [None]


async def test_what_takes_no_ranges_is_not_divided_whatever_its_headers_say(many):
    document = b'{"type": "FeatureCollection", "features": [' + b" " * 2 * MIB + b"]}"
    yard = await many(document, content_type="application/json")
    result = await yard.fetch(origin=yard.served(), kind=Kind.GEOJSON)
    assert (result.outcome, result.attempts, yard.store.ranges) == (Outcome.COMPLETED, 1, [None])


async def test_connections_that_break_off_cost_nothing(many):
    yard = await many()
    yard.store.script = [
        lambda answer, at=at: answer.cut(at) for at in (700_000, 300_000, 0, 100_000, 65_536)
    ]
    result = await yard.fetch()
    assert whole(result, yard)
    assert result.downloaded_bytes == len(BODY)
    assert result.attempts == 1 + len(yard.scheduled) > 2


async def test_a_flipped_byte_is_found_and_all_is_fetched_anew(many):
    yard = await many()

    def flipped(answer):
        body = bytearray(answer.body)
        body[1000] ^= 1  # what is further on may come over another connection
        return answer.but().__class__(answer.status, answer.headers, bytes(body), answer.length)

    yard.store.script = [flipped]
    result = await yard.fetch()
    assert whole(result, yard)
    assert [reason for reason, _ in yard.scheduled] == [Reason.CHECKSUM_MISMATCH]


async def test_an_object_that_changes_meanwhile_is_fetched_anew_and_never_mixed(many):
    yard = await many()
    new = targz(9 * MIB + 4096)

    def change(answer):
        yard.store.body, yard.store.etag = new, '"v2"'
        return answer

    yard.store.script = [lambda answer: answer, change]
    assert whole(await yard.fetch(), yard, new)


async def test_a_server_that_stops_taking_ranges_is_asked_for_the_whole_over_one_connection(many):
    yard = await many()
    honest = yard.store.honest

    def deaf(asked):
        asked.headers = {key: value for key, value in asked.headers.items() if key != "range"}
        return honest(asked)

    yard.store.honest = deaf
    assert whole(await yard.fetch(), yard)


async def test_expired_urls_are_signed_again_for_all_connections(many):
    yard = await many()
    refused = []

    def expired(answer):
        refused.append(answer)
        return answer.__class__(400, {"Content-Type": "application/xml"}, b"<Code>ExpiredToken</Code>", 25)

    yard.store.script = [lambda answer: answer, expired, expired]
    result = await yard.fetch()
    assert whole(result, yard)
    assert len(refused) == 2
    assert result.downloaded_bytes == len(BODY)


async def test_a_dead_storage_ends_at_the_limit_and_what_came_is_kept_for_the_next_run(many):
    yard = await many()
    honest = yard.store.honest

    def dying(asked):
        answer = honest(asked)
        if yard.store.sent_bytes > 4 * MIB:
            return answer.__class__(503, {}, b"", 0)
        return answer

    yard.store.honest = dying
    failed = await yard.fetch()
    assert (failed.outcome, failed.reason) == (Outcome.FAILED, Reason.SERVER_ERROR)
    yard.store.honest = honest
    before = yard.store.sent_bytes
    again = await yard.fetch()
    assert whole(again, yard)
    assert again.resumed_from_bytes > 0
    assert again.resumed_from_bytes + again.downloaded_bytes == len(BODY)
    # What a connection is cut short of may have been sent already: no more than fits into its buffers.
    assert yard.store.sent_bytes - before - again.downloaded_bytes < 4 * (512 << 10)


async def test_cancelling_keeps_what_has_come(many):
    yard = await many()
    yard.store.script = [lambda answer: answer.__class__(**{**vars(answer), "hold_at": 2 * MIB})] * 8
    fetch = asyncio.ensure_future(yard.fetch())
    await yard.arrived(3 * MIB)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    assert yard.files() == {}
    assert yard.permits.in_use == 1
    yard.store.script = []
    yard.store.release.set()
    again = await yard.fetch()
    assert whole(again, yard)
    assert again.resumed_from_bytes >= 2 * MIB
    assert again.resumed_from_bytes + again.downloaded_bytes == len(BODY)


@pytest.mark.parametrize("cut_at", [1_000_000, None])
async def test_who_is_called_off_while_it_writes_what_has_come_loses_nothing(many, monkeypatch, cut_at):
    """One connection breaks off, or waits for the disk, and another one gives up for all."""
    yard = await many(connections=2)
    write_at, drain_buffered, refusal = (
        PartialFile.write_at,
        BodyReader.drain_buffered,
        SignedUrlSource.error_from_response,
    )
    finishing, refused, written = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_write(part, start, chunks):
        await written.wait()
        return await write_at(part, start, chunks)

    def noted_drain(body):
        finishing.set()
        return drain_buffered(body)

    async def noted_refusal(origin, response):
        failure = await refusal(origin, response)
        refused.set()
        return failure

    monkeypatch.setattr(PartialFile, "write_at", slow_write)
    monkeypatch.setattr(BodyReader, "drain_buffered", noted_drain)
    monkeypatch.setattr(SignedUrlSource, "error_from_response", noted_refusal)
    gone = {"status": 410, "headers": {}, "body": b"gone", "length": 4, "hold_at": 0}
    yard.store.script = [
        lambda answer: replace(answer, cut_at=cut_at),
        lambda answer: replace(answer, **gone),
    ]
    fetching = asyncio.ensure_future(yard.fetch())
    await (finishing.wait() if cut_at else yard.arrived(MIB))
    yard.store.release.set()
    await refused.wait()
    await wait_until_idle()  # the refusal becomes a cancellation of the other connection
    written.set()
    first = await fetching
    assert first.reason is Reason.REJECTED
    assert first.downloaded_bytes >= 1_000_000
    monkeypatch.undo()
    again = await yard.fetch()
    assert whole(again, yard)
    assert again.resumed_from_bytes == first.downloaded_bytes
    assert again.downloaded_bytes == len(BODY) - first.downloaded_bytes


async def test_a_page_instead_of_the_archive_reaches_no_disk(many):
    page = b"<html>" + bytes(2 * MIB)
    yard = await many(page, digests=())
    result = await yard.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.UNEXPECTED_CONTENT)
    assert yard.files() == {}
    assert yard.parts() == []


async def test_lines_leave_when_there_are_fewer_permits(many):
    permits = ConcurrencyLimiter(4)
    yard = await many(permits=permits)

    def shrink(answer):
        permits.resize(1)
        return answer

    yard.store.script = [lambda answer: answer] * 3 + [shrink]
    assert whole(await yard.fetch(), yard)


async def test_what_the_last_line_leaves_is_fetched_by_the_first_in_the_same_attempt(many, monkeypatch):
    monkeypatch.setattr(segment_scheduler, "MIN_SEGMENT_BYTES", 3 * MIB)
    permits = ConcurrencyLimiter(2)
    yard = await many(connections=2, permits=permits)
    finish, done = segment_scheduler.SegmentScheduler.finish, asyncio.Event()

    def noted_finish(board, span):
        finish(board, span)
        done.set()

    monkeypatch.setattr(segment_scheduler.SegmentScheduler, "finish", noted_finish)
    yard.store.script = [lambda answer: answer, lambda answer: replace(answer, hold_at=700_000)]
    fetching = asyncio.ensure_future(yard.fetch())
    await yard.arrived(len(BODY) - 2 * MIB + 700_000)
    await done.wait()  # the first connection finds nothing more to do
    permits.resize(1)
    yard.store.release.set()
    assert whole(await fetching, yard)
    assert yard.scheduled == []


async def test_where_nothing_is_left_to_share_no_line_is_opened(many, monkeypatch):
    class Counted(ConcurrencyLimiter):
        asked = 0

        async def acquire_spare(self):
            self.asked += 1
            await super().acquire_spare()

    monkeypatch.setattr(segment_scheduler, "MIN_SEGMENT_BYTES", 16 * MIB)
    permits = Counted(4)
    yard = await many(permits=permits)
    yard.store.script = [lambda answer: replace(answer, hold_at=2 * MIB)]
    fetching = asyncio.ensure_future(yard.fetch())
    await yard.arrived(2 * MIB)
    await wait_until_idle()
    assert permits.asked == 0
    yard.store.release.set()
    assert whole(await fetching, yard)
    assert permits.asked == 0


async def test_a_disk_that_is_full_is_told_also_by_a_connection_that_breaks_off(many, monkeypatch):
    yard = await many(permits=ConcurrencyLimiter(1))
    write_at = PartialFile.write_at

    async def full(part, start, chunks):
        if start + sum(map(len, chunks)) == 1_500_000:
            raise DestinationError(Reason.DISK_FULL, "no room")
        return await write_at(part, start, chunks)

    monkeypatch.setattr(PartialFile, "write_at", full)
    yard.store.script = [lambda answer: answer.cut(1_500_000)]
    result = await yard.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.DISK_FULL)
    assert yard.scheduled == []


async def test_a_first_connection_that_broke_off_is_closed_before_it_is_asked_for_again(many, monkeypatch):
    yard = await many()
    open_response, responses, closed = SignedUrlSource.open, [], []

    @asynccontextmanager
    async def noted_open(remote_file, headers):
        async with open_response(remote_file, headers) as (response, prefetched):
            responses.append(response)
            yield response, prefetched

    async def noted_sleep(_):
        closed.append(responses[0].closed)

    monkeypatch.setattr(SignedUrlSource, "open", noted_open)
    yard.set_context(sleep=noted_sleep)
    yard.store.script = [lambda answer: answer.cut(700_000)]
    assert whole(await yard.fetch(), yard)
    assert closed == [True]


async def test_cancelling_outranks_a_connection_that_gives_up_in_the_same_moment(many, monkeypatch):
    yard = await many(connections=2)
    refusal = SignedUrlSource.error_from_response

    async def cancelling(origin, response):
        failure = await refusal(origin, response)
        fetching.cancel()
        return failure

    monkeypatch.setattr(SignedUrlSource, "error_from_response", cancelling)
    yard.store.script = [
        lambda answer: replace(answer, hold_at=MIB),
        lambda answer: replace(answer, status=410),
    ]
    fetching = asyncio.ensure_future(yard.fetch())
    await asyncio.wait([fetching])
    assert fetching.cancelled()
    assert yard.permits.in_use == 1


async def test_lines_that_the_server_will_not_have_leave_and_the_first_brings_it_all(many):
    alone = asyncio.Event()

    class Noted(ConcurrencyLimiter):
        def release(self):
            super().release()
            if len(yard.scheduled) == 3 * (POLICY.max_attempts - 1) and self.in_use == 1:
                alone.set()

    yard = await many(permits=Noted(4))
    honest = yard.store.honest

    def one_at_a_time(asked):
        answer = honest(asked)
        is_one_more = asked.range and not yard.store.release.is_set()
        return answer.__class__(503, {}, b"", 0) if is_one_more else answer

    yard.store.honest = one_at_a_time
    yard.store.script = [lambda answer: replace(answer, hold_at=MIB)]
    fetching = asyncio.ensure_future(yard.fetch())
    await alone.wait()
    yard.store.release.set()
    assert whole(await fetching, yard)
    assert {reason for reason, _ in yard.scheduled} == {Reason.SERVER_ERROR}
    assert len(yard.scheduled) == 3 * (POLICY.max_attempts - 1)
