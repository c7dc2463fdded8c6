"""One large archive over several connections: the same promises, each byte in its place."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.destinations.local.partial_file import PartialFile
from bulkdl.models import Outcome, Reason
from bulkdl.transfer.context import Limits
from support.idle import wait_until_idle
from support.scripted_store import goog_hash
from support.transfer_objects import targz

BODY = targz(12_000_000)
OTHER = targz(11_000_000)
LIMITS = Limits(segment_min_size_bytes=1 << 20, connections=4)


@pytest.fixture
def wide(yard):
    """A yard whose transfers may use four connections."""

    async def make(body=BODY, **facts):
        site = await yard(body, **facts)
        site.set_context(limits=LIMITS, permits=ConcurrencyLimiter(4))
        return site

    return make


def landed(result, site, body=BODY):
    assert (result.outcome, result.detail) == (Outcome.COMPLETED, "")
    assert site.files() == {result.file.key: body}
    assert str(result.file.digest) == goog_hash(body, "crc32c")
    assert site.parts() == []
    return True


class Each:
    """A script that does not end: the n-th answer is what *change* makes of it."""

    def __init__(self, change):
        self._change, self._numbers = change, itertools.count(1)

    def __bool__(self):
        return True

    def pop(self, _):
        number = next(self._numbers)
        return lambda answer: self._change(number, answer)


def opened(site):
    return [one for one in site.store.asked if one.range]


async def stopped_at(site, at_bytes):
    """A fetch that was stopped after that much; what it leaves is kept."""
    site.store.script = Each(lambda _, answer: replace(answer, hold_at=700_000))
    fetching = asyncio.create_task(site.fetch())
    await site.arrived(at_bytes)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    site.store.release.set()
    site.store.script = []


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("md5",), ("crc32c",), ()])
async def test_it_lands_whole_and_comes_over_several_connections(wide, digests):
    site = await wide(digests=digests)
    result = await site.fetch()
    assert landed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert opened(site)
    assert all(one.headers["if-range"] == '"v1"' for one in opened(site))


async def test_one_that_is_fast_stays_alone(wide):
    site = await wide()
    site.set_context(
        limits=replace(LIMITS, segment_if_slower_than_bytes_per_s=1), permits=ConcurrencyLimiter(4)
    )
    assert landed(await site.fetch(), site)
    assert opened(site) == []


async def test_one_that_is_slow_gets_company(wide):
    site = await wide()
    site.set_context(
        limits=replace(LIMITS, segment_if_slower_than_bytes_per_s=1), permits=ConcurrencyLimiter(4)
    )
    site.store.script = [lambda answer: replace(answer, hold_at=700_000)]
    fetching = asyncio.create_task(site.fetch())
    await site.arrived(4_000_000)
    site.store.release.set()
    assert landed(await fetching, site)


async def test_every_connection_may_break_again_and_again(wide):
    site = await wide()
    site.store.script = Each(lambda _, answer: answer.cut(300_000))
    result = await site.fetch()
    assert landed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert site.store.sent_bytes < len(BODY) * 1.1


@pytest.mark.parametrize("at", [0, 1, 100, 511, 513])
async def test_a_first_connection_that_breaks_at_once_leaves_no_hole(wide, at):
    site = await wide()
    site.store.script = [lambda answer: answer.cut(at)]
    assert landed(await site.fetch(), site)


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("digests", [("crc32c", "md5"), ()])
async def test_an_object_that_changes_midway_is_fetched_anew(wide, number, digests):
    site = await wide(digests=digests)

    def change(count, answer):
        if count == number:
            site.store.body, site.store.etag, site.store.last_modified = OTHER, '"v2"', None
        return answer.cut(500_000) if count <= number else answer

    site.store.script = Each(change)
    assert landed(await site.fetch(), site, OTHER)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_flipped_byte_in_any_piece_is_noticed(wide, number):
    site = await wide()

    def flip(count, answer):
        if count != number:
            return answer
        body = bytearray(answer.body)
        body[1000] ^= 1
        return replace(answer, body=bytes(body))

    site.store.script = Each(flip)
    assert landed(await site.fetch(), site)
    assert Reason.CHECKSUM_MISMATCH in {reason for reason, _ in site.scheduled}


async def test_bytes_from_another_place_are_never_used(wide):
    site = await wide(digests=())

    def shift(count, answer):
        if answer.status != 206 or count > 6:
            return answer
        text = answer.headers["Content-Range"].partition("-")[0].removeprefix("bytes ")
        moved = f"bytes {int(text) + 1}-{int(text) + len(answer.body)}/{len(BODY)}"
        return replace(answer, body=BODY[int(text) + 1 :][: len(answer.body)]).but(Content_Range=moved)

    site.store.script = Each(shift)
    result = await site.fetch()
    assert result.outcome is Outcome.FAILED or landed(result, site)


async def test_a_server_that_answers_ranges_with_the_whole_is_survived(wide):
    site = await wide()
    whole = site.store.honest(type("asked", (), {"range": None, "headers": {}}))
    site.store.script = Each(lambda count, answer: answer if count == 1 else whole)
    assert landed(await site.fetch(), site)


async def test_an_expired_url_is_signed_again_for_all(wide):
    site = await wide()

    def expire(count, answer):
        if count in (3, 4, 5):
            return replace(answer, status=403, headers={}, body=b"", length=0)
        return answer.cut(1_000_000)

    site.store.script = Each(expire)
    result = await site.fetch()
    assert landed(result, site)
    assert 2 <= site.store.signed <= 4
    assert result.downloaded_bytes == len(BODY)


async def test_cancelling_keeps_every_piece_for_the_next_run(wide):
    site = await wide()
    await stopped_at(site, 2_500_000)
    result = await site.fetch()
    assert landed(result, site)
    assert result.resumed_from_bytes >= 2_500_000
    assert result.downloaded_bytes == len(BODY) - result.resumed_from_bytes


async def test_pieces_of_an_object_replaced_since_are_dropped(wide):
    site = await wide()
    await stopped_at(site, 2_000_000)
    site.store.body, site.store.etag, site.store.last_modified = OTHER, '"v2"', None
    assert landed(await site.fetch(), site, OTHER)


@pytest.mark.parametrize("path", ["/bucket/task.tar.gz", "/bucket/other.tar.gz"])
async def test_pieces_that_are_all_there_are_published_unasked_only_if_the_place_is_the_same(
    wide, monkeypatch, path
):
    site = await wide()
    committing = asyncio.Event()

    async def stopped(*_):
        committing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(PartialFile, "commit", stopped)
    fetching = asyncio.create_task(site.fetch())
    await committing.wait()
    fetching.cancel()
    await asyncio.wait([fetching])
    monkeypatch.undo()
    asked = len(site.store.asked)
    if path != site.store.path:
        site.store.path, site.store.body, site.store.etag = path, OTHER, '"v2"'
    assert landed(await site.fetch(), site, site.store.body)
    assert (len(site.store.asked) == asked) is (site.store.body is BODY)


PAGE = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"


def page(answer):
    """A page with status 200 and the headers of an object that could be divided."""
    body = PAGE.ljust(2 << 20)
    changed = replace(answer, status=200, body=body, length=len(body))
    return changed.but(Accept_Ranges="bytes", ETag='"v2"', x_goog_hash="")


async def test_a_page_where_a_piece_was_asked_for_costs_no_piece(wide):
    site = await wide()
    await stopped_at(site, 2_000_000)
    site.store.script = [page]
    result = await site.fetch()
    assert landed(result, site)
    assert result.resumed_from_bytes >= 2_000_000
    assert result.downloaded_bytes <= len(BODY) - result.resumed_from_bytes + (2 << 20)


async def test_a_large_page_that_answers_a_resume_costs_nothing_of_a_part_that_grows(wide):
    site = await wide()
    site.set_context(limits=replace(LIMITS, connections=1))
    site.store.script = [lambda answer: answer.cut(2_000_000), lambda answer: replace(answer, status=410)]
    await site.fetch()
    site.set_context(limits=LIMITS)
    site.store.script = [page]
    result = await site.fetch()
    assert landed(result, site)
    assert result.resumed_from_bytes == 2_000_000
    assert site.store.ranges[2:] == ["bytes=2000000-", "bytes=2000000-"]


async def test_who_is_stopped_while_a_divided_part_is_begun_loses_nothing(wide, monkeypatch):
    site = await wide()
    begin, begun, may_end = PartialFile.create, asyncio.Event(), asyncio.Event()

    async def slow(part, stored, *, divided=False):
        begun.set()
        await may_end.wait()
        await begin(part, stored, divided=divided)

    monkeypatch.setattr(PartialFile, "create", slow)
    fetching = asyncio.create_task(site.fetch())
    await begun.wait()
    fetching.cancel()
    await wait_until_idle()
    may_end.set()
    await asyncio.wait([fetching])
    monkeypatch.undo()
    result = await site.fetch()
    assert landed(result, site)
    assert result.resumed_from_bytes > 0


async def test_connections_that_are_one_too_many_leave_in_the_middle_and_keep_what_came(wide):
    site = await wide()
    permits = ConcurrencyLimiter(4)
    site.set_context(limits=LIMITS, permits=permits)
    site.store.script = Each(lambda _, answer: replace(answer, hold_at=700_000))
    fetching = asyncio.create_task(site.fetch())
    await site.arrived(2_800_000)
    assert permits.in_use == 3  # the first connection is its worker's
    permits.resize(0)
    site.store.release.set()
    site.store.script = []
    result = await fetching
    assert landed(result, site)
    assert result.downloaded_bytes == len(BODY)
    assert permits.in_use == 0


async def test_pieces_are_gone_on_with_by_one_connection_too(wide):
    site = await wide()
    await stopped_at(site, 2_000_000)
    site.set_context(limits=Limits(connections=1), permits=ConcurrencyLimiter(1))
    assert landed(await site.fetch(), site)


async def test_who_may_have_one_connection_begins_no_divided_part(wide, monkeypatch):
    """Not even when the pieces that an earlier run has left turn out to be void."""
    site = await wide()
    await stopped_at(site, 2_000_000)
    site.set_context(limits=replace(LIMITS, connections=1), permits=ConcurrencyLimiter(1))
    begin, begun = PartialFile.create, []

    async def noted(part, stored, *, divided=False):
        begun.append(divided)
        await begin(part, stored, divided=divided)

    monkeypatch.setattr(PartialFile, "create", noted)
    site.store.script = [lambda answer: answer.but(Content_Range=f"bytes 7-{len(BODY) - 1}/{len(BODY)}")]
    assert landed(await site.fetch(), site)
    assert begun == [False]


async def test_a_dead_server_ends_within_the_limit(wide):
    site = await wide()
    dead = {"status": 503, "headers": {}, "body": b"", "length": 0}
    site.store.script = Each(
        lambda count, answer: replace(answer, **dead) if count > 3 else answer.cut(400_000)
    )
    result = await site.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.SERVER_ERROR)
    assert len(site.store.asked) < 40
    assert site.files() == {}
    site.store.script = []
    assert landed(await site.fetch(), site)
