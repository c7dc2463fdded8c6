"""Whole transfers over a real socket into a real folder, against a storage that does as it is told."""

import asyncio
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bulkdl.destinations.local.partial_file import PartialFile
from bulkdl.errors import ApiError, DestinationError, TransferError
from bulkdl.models import Kind, Outcome, Output, Reason, Validator
from bulkdl.transfer.body_reader import BLOCK_BYTES
from bulkdl.transfer.context import Limits
from bulkdl.transfer.download import result_of_failure
from support.idle import wait_until_idle
from support.scripted_store import goog_hash
from support.transfer_objects import LARGE, POLICY, SMALL, targz


def cut(at):
    return lambda answer: answer.cut(at)


def status(code, body=b"", **headers):
    return lambda _: replace(_, status=code, headers={}, body=body, length=len(body)).but(**headers)


def completed(result, yard, body):
    assert (result.outcome, result.detail) == (Outcome.COMPLETED, "")
    assert yard.files() == {result.file.key: body}
    assert result.file.size_bytes == len(body)
    assert str(result.file.digest) == goog_hash(body, "crc32c")
    return True


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_an_archive_lands_whole_under_the_suffix_of_its_bytes(yard, body):
    site = await yard(body)
    result = await site.fetch()
    assert completed(result, site, body)
    assert result.file.key == "output.tar.gz"
    assert result.file.validator.etag == '"v1"'
    assert result.file.source == f"http://127.0.0.1:{site.store.port}/bucket/task.tar.gz"
    assert (result.attempts, result.downloaded_bytes, site.store.sent_bytes) == (1, len(body), len(body))
    assert site.parts() == []


@pytest.mark.parametrize("at", [0, 1, 511, 512, 65_536, 65_537, BLOCK_BYTES, 2_000_000, len(LARGE) - 1])
async def test_a_body_cut_at_any_byte_goes_on_where_it_ended(yard, at):
    site = await yard(LARGE)
    site.store.script = [cut(at)]
    result = await site.fetch()
    assert completed(result, site, LARGE)
    kept = at if at >= 512 else 0  # less is not worth a part
    assert site.store.ranges == [None, f"bytes={kept}-" if kept else None]
    assert result.downloaded_bytes == len(LARGE) + at - kept
    assert result.attempts == 2
    assert site.store.asked[-1].headers.get("if-range") == ('"v1"' if kept else None)


async def test_each_cut_costs_nothing_and_progress_sets_the_count_back(yard):
    site = await yard(LARGE)
    site.store.script = [cut(200_000) for _ in range(3 * POLICY.max_attempts)]
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert site.store.sent_bytes == len(LARGE)
    assert result.attempts == 3 * POLICY.max_attempts + 1


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("md5",), ()])
async def test_a_resumed_body_is_held_against_its_digest_as_a_whole(yard, digests):
    site = await yard(LARGE, digests=digests)
    site.store.script = [cut(1_234_567)]
    assert completed(await site.fetch(), site, LARGE)


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ()])
@pytest.mark.parametrize(("old", "new"), [(LARGE, targz(3_400_000)), (SMALL, targz(40_001))])
async def test_an_object_that_changes_between_attempts_is_fetched_anew(yard, old, new, digests):
    site = await yard(old, digests=digests)

    def cut_then_replace(answer):
        site.store.body, site.store.etag, site.store.last_modified = new, '"v2"', None
        return answer.cut(len(old) * 2 // 3)

    site.store.script = [cut_then_replace]
    result = await site.fetch()
    assert completed(result, site, new)
    assert result.file.validator.etag == '"v2"'
    assert site.parts() == []


async def test_a_range_answered_by_the_whole_begins_at_zero(yard):
    site = await yard(LARGE)
    site.store.script = [
        cut(2_000_000),
        lambda answer: replace(site.store.honest(replace(site.store.asked[0])), status=200),
    ]
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert result.downloaded_bytes == len(LARGE) + 2_000_000


async def test_a_small_body_that_begins_again_is_not_appended_to_its_first_try(yard):
    site = await yard(SMALL, etag=None, last_modified=None, digests=())
    site.store.script = [cut(20_000)]
    result = await site.fetch()
    assert completed(result, site, SMALL)
    assert (result.attempts, site.parts()) == (2, [])


async def test_a_part_of_an_earlier_run_without_proof_is_not_appended_to(yard):
    site = await yard(SMALL, etag=None, last_modified=None, digests=())
    site.store.script = [cut(20_000)] * POLICY.max_attempts
    assert (await site.fetch()).outcome is Outcome.FAILED
    result = await site.fetch()
    assert completed(result, site, SMALL)
    assert (result.attempts, result.resumed_from_bytes, site.parts()) == (1, 0, [])


async def test_a_206_from_another_byte_is_not_used(yard):
    site = await yard(LARGE)

    def shifted(answer):
        size = len(LARGE)
        body = LARGE[1_000_001:]
        return replace(answer, body=body, length=len(body)).but(
            Content_Range=f"bytes 1000001-{size - 1}/{size}"
        )

    site.store.script = [cut(1_000_000), shifted]
    assert completed(await site.fetch(), site, LARGE)
    assert site.store.ranges == [None, "bytes=1000000-", None]


async def test_a_416_begins_again(yard):
    site = await yard(LARGE)
    site.store.script = [cut(1_000_000), status(416)]
    assert completed(await site.fetch(), site, LARGE)
    assert site.scheduled[-1][0] is Reason.OBJECT_CHANGED
    assert site.store.ranges == [None, "bytes=1000000-", None]


async def test_a_server_without_validators_is_never_asked_for_a_range(yard):
    site = await yard(LARGE, etag=None, last_modified=None)
    site.store.script = [cut(2_000_000)]
    assert completed(await site.fetch(), site, LARGE)
    assert site.store.ranges == [None, None]


async def test_a_weak_etag_alone_is_no_proof(yard):
    site = await yard(LARGE, etag='W/"v1"', last_modified=None)
    site.store.script = [cut(2_000_000)]
    assert completed(await site.fetch(), site, LARGE)
    assert site.store.ranges == [None, None]


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_fetch_with_an_etag_that_is_no_text_completes_without_it(yard, body):
    site = await yard(body, etag='"\udce9"', last_modified=None)
    result = await site.fetch()
    assert completed(result, site, body)
    assert result.file.validator == Validator()


async def test_fetch_with_a_weak_etag_and_a_date_never_asks_for_a_range(yard):
    site = await yard(LARGE, etag='W/"v1"')
    site.store.script = [cut(2_000_000)]
    assert completed(await site.fetch(), site, LARGE)
    assert site.store.ranges == [None, None]


def flipped(answer):
    middle = len(answer.body) // 2
    broken = bytearray(answer.body)
    broken[middle] ^= 1
    return replace(answer, body=bytes(broken))


@pytest.mark.parametrize("body", [SMALL, LARGE])
@pytest.mark.parametrize("digests", [("crc32c", "md5"), ("crc32c",), ("md5",)])
async def test_a_flipped_byte_is_fetched_again(yard, body, digests):
    site = await yard(body, digests=digests)
    site.store.script = [flipped]
    result = await site.fetch()
    assert completed(result, site, body)
    assert [reason for reason, _ in site.scheduled] == [Reason.CHECKSUM_MISMATCH]


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_bytes_that_stay_wrong_fail_and_never_get_a_name(yard, body):
    site = await yard(body)
    site.store.script = [flipped] * 9
    result = await site.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.CHECKSUM_MISMATCH)
    assert (result.attempts, result.file) == (POLICY.max_attempts, None)
    assert (site.files(), site.parts()) == ({}, [])


async def test_a_flipped_byte_without_digest_is_found_by_the_archives_own_checksum(yard):
    site = await yard(LARGE, digests=())
    site.store.script = [flipped]
    assert completed(await site.fetch(), site, LARGE)
    assert [reason for reason, _ in site.scheduled] == [Reason.CORRUPT_CONTENT]


@pytest.mark.parametrize("digests", [("crc32c", "md5"), ()])
@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_a_body_one_byte_short_with_a_length_that_agrees_is_noticed(yard, body, digests):
    site = await yard(body, digests=digests)
    site.store.script = [lambda answer: replace(answer, body=body[:-1], length=len(body) - 1)]
    assert completed(await site.fetch(), site, body)
    assert len(site.scheduled) == 1


async def test_a_chunked_body_without_length_lands(yard):
    site = await yard(LARGE, chunked=True)
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert site.progress[-1][:2] == (len(LARGE), None)


async def test_a_chunked_body_that_breaks_off_is_not_taken_for_whole(yard):
    site = await yard(LARGE, chunked=True, digests=())
    site.store.script = [cut(1_500_000)]
    assert completed(await site.fetch(), site, LARGE)
    assert site.store.sent_bytes == len(LARGE)


async def test_a_range_tells_the_length_that_a_chunked_body_had_not(yard):
    site = await yard(LARGE, chunked=True, digests=())

    def only_some(answer):
        start = len(LARGE) - len(answer.body)
        return replace(answer, body=answer.body[:1000], length=1000).but(
            Content_Range=f"bytes {start}-{start + 999}/{len(LARGE)}"
        )

    site.store.script = [cut(1_500_000), only_some]
    assert completed(await site.fetch(), site, LARGE)
    assert [reason for reason, _ in site.scheduled] == [Reason.TRUNCATED, Reason.TRUNCATED]


@pytest.mark.parametrize("code", [400, 403])
async def test_an_expired_url_is_signed_again_and_goes_on_at_the_same_byte(yard, code):
    site = await yard(LARGE)
    expired = status(code, b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>")
    site.store.script = [cut(1_000_000), expired, cut(1_000_000), expired, expired]
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert site.store.sent_bytes - 3 * 61 == len(LARGE)
    assert site.store.signed == 4
    assert site.store.ranges[-1] == "bytes=2000000-"
    assert len({one.target for one in site.store.asked}) == 4


async def test_a_url_known_to_have_expired_is_not_even_tried(yard):
    site = await yard(SMALL, expires="1")
    site.store.script = [cut(10_000)]
    assert completed(await site.fetch(), site, SMALL)
    assert site.store.signed == len(site.store.asked) == 2


async def test_signing_again_without_end_is_bounded(yard):
    site = await yard(SMALL)
    site.store.script = [status(403)] * 50
    result = await site.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.URL_EXPIRED)
    assert len(site.store.asked) == POLICY.max_attempts + POLICY.max_free_url_renewals == result.attempts


async def test_the_url_goes_out_as_it_was_signed(yard):
    site = await yard(SMALL)
    await site.fetch()
    assert site.store.asked[0].target == (
        "/bucket/task.tar.gz?GoogleAccessId=me&Expires=9999999999&Signature=can%2Fary1%3D"
    )
    assert "authorization" not in site.store.asked[0].headers


async def test_fetch_storage_404_is_retried_with_a_new_url(yard):
    site = await yard(SMALL)
    site.store.script = [status(404)]
    assert completed(await site.fetch(), site, SMALL)
    assert site.store.signed == 2


async def test_fetch_api_404_is_not_available():
    result = result_of_failure(Output("p", "j", "t", Kind.ARCHIVE), ApiError(Reason.NOT_FOUND, "no results"))
    assert (result.outcome, result.reason) == (Outcome.SKIPPED, Reason.NOT_AVAILABLE)
    storage = TransferError(Reason.NOT_FOUND, "HTTP 404")
    assert result_of_failure(Output("p", "j", "t", Kind.ARCHIVE), storage).outcome is Outcome.FAILED


@pytest.mark.parametrize(("code", "reason"), [(410, Reason.REJECTED), (405, Reason.REJECTED)])
async def test_other_refusals_are_final(yard, code, reason):
    site = await yard(SMALL)
    site.store.script = [status(code)]
    result = await site.fetch()
    assert (result.outcome, result.reason, result.attempts) == (Outcome.FAILED, reason, 1)


@pytest.mark.parametrize("code", [408, 500, 502, 503, 504])
async def test_a_dead_server_ends_at_the_limit_with_the_waits_of_the_policy(yard, code):
    site = await yard(SMALL)
    site.store.script = [status(code)] * 9
    result = await site.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.SERVER_ERROR)
    assert result.attempts == POLICY.max_attempts == len(site.store.asked)
    assert site.timeline.slept == [1.0, 2.0]
    assert site.scheduled == [(Reason.SERVER_ERROR, 1.0), (Reason.SERVER_ERROR, 2.0)]


async def test_retry_after_is_obeyed_and_shared_by_the_host(yard):
    site = await yard(SMALL)
    site.store.script = [status(429, Retry_After="17")]
    result = await site.fetch()
    assert completed(result, site, SMALL)
    assert site.timeline.now - 1000 >= 17
    site.store.script = [status(503, Retry_After="100000")]
    assert (await site.fetch(name="second")).outcome is Outcome.COMPLETED
    assert 300 <= site.timeline.now - 1017 < 320


async def test_one_429_cools_the_host_for_every_transfer(yard):
    site = await yard(SMALL)
    site.store.script = [status(429, Retry_After="17")]

    async def at_once(_):
        """The wait between two attempts takes no time: what waits is the host."""

    site.set_context(sleep=at_once)
    assert completed(await site.fetch(), site, SMALL)
    assert site.timeline.slept == [17.0]


async def test_cancelling_leaves_a_part_from_which_the_next_run_goes_on(yard):
    site = await yard(LARGE)
    site.store.script = [lambda answer: replace(answer, hold_at=2_345_678)]
    fetching = asyncio.create_task(site.fetch())
    await site.arrived(2_345_678)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len(site.parts()) == 2
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert result.resumed_from_bytes == 2_345_678
    assert site.store.ranges == [None, "bytes=2345678-"]
    assert result.downloaded_bytes == len(LARGE) - 2_345_678
    assert site.parts() == []


async def test_a_transfer_that_is_over_for_now_needs_no_more_room(yard):
    site = await yard(LARGE)
    site.store.script = [lambda answer: replace(answer, hold_at=2_345_678)]
    fetching = asyncio.create_task(site.fetch())
    await site.arrived(2_345_678)
    assert site.sink.state.reservations.reserved_bytes >= len(LARGE) - 2_345_678
    fetching.cancel()
    await asyncio.wait([fetching])
    assert site.sink.state.reservations.reserved_bytes == 0


async def test_cancelling_ends_the_worker_even_when_the_bytes_so_far_are_refused(yard):
    site = await yard(b"<html>" + b" " * 5000)
    site.store.script = [lambda answer: replace(answer, hold_at=3000)]
    fetching = asyncio.create_task(site.fetch())
    await site.arrived(3000)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


async def test_cancelling_between_attempts_ends_the_worker(yard):
    site = await yard(SMALL)
    site.store.script = [status(503)]

    async def endless(_):
        site.timeline.somebody_sleeps.set()
        await asyncio.Event().wait()

    site.set_context(sleep=endless)
    fetching = asyncio.create_task(site.fetch())
    await site.timeline.somebody_sleeps.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching


async def test_a_part_of_an_object_replaced_since_the_last_run_is_dropped(yard):
    site = await yard(LARGE)
    site.store.script = [cut(2_000_000), *[status(410)]]
    assert (await site.fetch()).outcome is Outcome.FAILED
    site.store.body, site.store.etag, site.store.last_modified = targz(3_000_000), '"v2"', None
    result = await site.fetch()
    assert completed(result, site, site.store.body)
    assert result.resumed_from_bytes == 0
    assert site.store.ranges[-1] == "bytes=2000000-"


async def test_small_bodies_never_become_a_part(yard, monkeypatch):
    site = await yard(SMALL)
    part = type(site.sink.partial_file(site.output))
    monkeypatch.setattr(part, "_create", lambda *_: pytest.fail("a part was begun"))
    assert completed(await site.fetch(), site, SMALL)


@pytest.mark.parametrize("body", [SMALL, LARGE])
async def test_what_comes_after_the_announced_end_belongs_to_nobody(yard, body):
    site = await yard(body)
    site.store.script = [
        lambda answer: replace(answer, body=body + b"\0" * 100_000, length=None).but(
            x_goog_stored_content_length=len(body)
        )
    ]
    result = await site.fetch()
    assert completed(result, site, body)
    assert (result.attempts, site.scheduled) == (1, [])


async def test_a_page_instead_of_the_archive_never_gets_a_name(yard):
    site = await yard(SMALL)
    page = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>" + b" " * 2_000_000
    site.store.script = [lambda answer: replace(answer, headers={}, body=page, length=len(page))] * 9
    result = await site.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.UNEXPECTED_CONTENT)
    assert (site.files(), site.parts()) == ({}, [])


PAGE = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>"


def instead(body):
    """*body* with status 200 and the headers of an object, whatever was asked for."""
    return lambda answer: replace(answer, status=200, body=body, length=len(body)).but(x_goog_hash="")


@pytest.mark.parametrize("page", [PAGE, PAGE + b" " * 2_000_000, b""])
async def test_a_page_that_answers_a_resume_costs_nothing_of_what_is_kept(yard, page):
    site = await yard(LARGE)
    site.store.script = [cut(2_000_000), instead(page)]
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert site.store.ranges == [None, "bytes=2000000-", "bytes=2000000-"]
    assert [reason for reason, _ in site.scheduled] == [Reason.TRUNCATED, Reason.UNEXPECTED_CONTENT]


async def test_only_a_transfer_that_begins_at_zero_is_said_to_restart(yard, caplog):
    site = await yard(LARGE)
    site.store.script = [cut(2_000_000), instead(PAGE)]
    await site.fetch()
    assert "transfer.restarted" not in caplog.text
    site.store.script = [flipped]
    await site.fetch(name="second")
    assert caplog.text.count("transfer.restarted") == 1


async def test_pages_without_end_leave_what_is_kept_to_the_next_run(yard):
    site = await yard(LARGE)
    site.store.script = [cut(2_000_000)] + [instead(PAGE)] * 9
    result = await site.fetch()
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.UNEXPECTED_CONTENT)
    assert result.attempts == POLICY.max_attempts + 1
    site.store.script = []
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert result.resumed_from_bytes == 2_000_000
    assert result.downloaded_bytes == len(LARGE) - 2_000_000


async def test_a_small_object_that_replaces_a_part_is_not_appended_to_it(yard):
    site = await yard(LARGE, digests=())
    site.store.script = [cut(2_000_000), instead(SMALL)]
    assert completed(await site.fetch(), site, SMALL)
    assert site.parts() == []


async def test_a_part_that_is_no_archive_after_all_is_fetched_anew(yard):
    site = await yard(LARGE)
    site.store.script = [cut(2_000_000), status(410)]
    await site.fetch()
    (data,) = site.sink.state.partial_folder.glob("*.part")
    data.write_bytes(PAGE.ljust(2_000_000))
    assert completed(await site.fetch(), site, LARGE)


async def test_an_object_stored_as_gzip_lands_as_it_is_stored(yard):
    site = await yard(LARGE)
    plain = {"x_goog_stored_content_encoding": "gzip", "x_goog_stored_content_length": len(LARGE)}

    def transcoded(answer):
        return replace(answer, body=b"unpacked" * 1000, length=None).but(**plain)

    def stored(answer):
        return answer.but(Content_Encoding="gzip", **plain)

    site.store.script = [transcoded, stored]
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert [one.headers["accept-encoding"] for one in site.store.asked] == ["identity", "gzip"]
    assert result.attempts == 1


def png(size):
    """The chunks of a PNG, without an image in them."""
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
async def test_what_the_api_serves_begins_again_after_a_cut(yard, kind, body, content_type, at):
    site = await yard(body, digests=(), content_type=content_type, etag=None, last_modified=None)
    site.store.script = [cut(min(at, len(body) - 1))]
    result = await site.fetch(origin=site.served(), kind=kind)
    assert completed(result, site, body)
    assert (result.attempts, site.store.ranges) == (2, [None, None])
    assert site.parts() == []


async def test_what_the_api_serves_leaves_no_part_when_it_fails(yard):
    site = await yard(PICTURE, digests=(), content_type="image/png")
    site.store.script = [cut(1_500_000)] * 9
    result = await site.fetch(origin=site.served(), kind=Kind.QUICKLOOK)
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.TRUNCATED)
    assert (site.files(), site.parts()) == ({}, [])


async def test_a_body_that_announces_nothing_is_cut_off_at_the_ceiling(yard):
    site = await yard(PICTURE * 4, digests=(), content_type="image/png", chunked=True)
    site.set_context(limits=Limits(max_bytes={Kind.QUICKLOOK: 1_200_000}))
    result = await site.fetch(origin=site.served(), kind=Kind.QUICKLOOK)
    assert (result.outcome, result.reason, result.attempts) == (Outcome.FAILED, Reason.TOO_LARGE, 1)
    assert result.downloaded_bytes < 4_000_000
    assert (site.files(), site.parts()) == ({}, [])


async def test_an_archive_that_announces_nothing_is_cut_off_at_the_ceiling(yard):
    site = await yard(LARGE, digests=(), chunked=True)
    site.set_context(limits=Limits(max_bytes={Kind.ARCHIVE: 1_200_000}))
    result = await site.fetch()
    assert (result.outcome, result.reason, result.attempts) == (Outcome.FAILED, Reason.TOO_LARGE, 1)
    assert site.files() == {}
    again = await site.fetch()
    assert (again.reason, again.attempts) == (Reason.TOO_LARGE, 1)
    assert again.resumed_from_bytes + again.downloaded_bytes < 2_000_000
    site.set_context(limits=Limits())
    assert completed(await site.fetch(), site, LARGE)
    assert site.store.ranges[-1] is not None


async def test_an_archive_announced_larger_than_the_ceiling_is_not_begun(yard):
    site = await yard(LARGE)
    site.set_context(limits=Limits(max_bytes={Kind.ARCHIVE: len(LARGE) - 1}, segment_min_size_bytes=1 << 20))
    result = await site.fetch()
    assert (result.outcome, result.reason, result.downloaded_bytes) == (Outcome.FAILED, Reason.TOO_LARGE, 0)
    assert (site.files(), site.parts()) == ({}, [])


async def test_a_body_that_is_too_slow_is_asked_for_again_and_loses_nothing(yard):
    site = await yard(LARGE)
    site.set_context(limits=Limits(speed_limit_bytes_per_s=1e12, speed_time_s=1e-9))
    result = await site.fetch()
    assert completed(result, site, LARGE)
    assert {reason for reason, _ in site.scheduled} == {Reason.STALLED}
    assert result.downloaded_bytes == len(LARGE)


async def test_what_an_earlier_run_committed_without_recording_it_is_not_fetched_again(yard):
    site = await yard(LARGE)
    first = await site.fetch(recorded=False)
    second = await site.fetch()
    assert (second.outcome, second.file) == (Outcome.COMPLETED, first.file)
    assert (second.downloaded_bytes, second.resumed_from_bytes) == (0, len(LARGE))
    assert len(site.store.asked) == 1
    assert site.parts() == []


async def test_what_was_committed_of_another_object_is_fetched_again(yard):
    site = await yard(LARGE)
    await site.fetch(recorded=False)
    site.store.body, site.store.path = targz(3_000_000), "/bucket/second-run.tar.gz"
    result = await site.fetch()
    assert completed(result, site, site.store.body)
    assert site.parts() == []


async def test_a_committed_file_that_is_gone_is_fetched_again(yard):
    site = await yard(LARGE)
    await site.fetch(recorded=False)
    (site.sink.root / "output.tar.gz").unlink()
    assert completed(await site.fetch(), site, LARGE)
    assert len(site.store.asked) == 2


async def test_a_failed_signing_is_final_and_counts_as_one_more_attempt(yard):
    site = await yard(LARGE)
    origin = site.signed()
    sign = site.store.sign

    async def refuse_later():
        if site.store.signed >= 1:
            raise ApiError(Reason.FORBIDDEN, "no")
        return await sign()

    origin._sign = refuse_later
    site.store.script = [cut(1_000_000), status(403)]
    result = await site.fetch(origin=origin)
    assert (result.outcome, result.reason) == (Outcome.FAILED, Reason.FORBIDDEN)
    assert result.attempts == 3
    assert len(site.parts()) == 2


@pytest.mark.parametrize("step", ["create", "write"])
@pytest.mark.parametrize("times", [1, 3])
async def test_who_is_stopped_while_a_block_is_handed_over_loses_nothing(yard, monkeypatch, step, times):
    made = await yard(LARGE)
    handing, may_end = asyncio.Event(), asyncio.Event()
    hand_over = getattr(PartialFile, step)

    async def slow(part, what, **how):
        handing.set()
        await may_end.wait()
        await hand_over(part, what, **how)

    monkeypatch.setattr(PartialFile, step, slow)
    fetch = asyncio.ensure_future(made.fetch())
    await handing.wait()
    for _ in range(times):
        fetch.cancel()
        await wait_until_idle()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    monkeypatch.undo()
    came_bytes, _, _ = made.progress[-1]
    assert came_bytes >= BLOCK_BYTES
    (data,) = made.sink.state.partial_folder.glob("*.part")
    assert LARGE.startswith(data.read_bytes())
    again = await made.fetch()
    assert completed(again, made, LARGE)
    assert again.resumed_from_bytes == came_bytes


@pytest.mark.parametrize("step", ["create", "write"])
async def test_who_is_stopped_while_a_block_is_refused_puts_nothing_behind_the_gap(yard, monkeypatch, step):
    made = await yard(LARGE)
    made.store.script = [lambda answer: replace(answer, hold_at=BLOCK_BYTES + 100_000)]
    handing, may_end = asyncio.Event(), asyncio.Event()
    hand_over = getattr(PartialFile, step)

    async def refused(part, what, **how):
        if not handing.is_set():
            handing.set()
            await may_end.wait()
            raise DestinationError(Reason.DISK_FULL, "no room")
        await hand_over(part, what, **how)

    monkeypatch.setattr(PartialFile, step, refused)
    fetch = asyncio.ensure_future(made.fetch())
    await handing.wait()
    fetch.cancel()
    await wait_until_idle()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    monkeypatch.undo()
    made.store.release.set()
    for data in made.sink.state.partial_folder.glob("*.part"):
        assert LARGE.startswith(data.read_bytes())
    assert completed(await made.fetch(), made, LARGE)


def open_files(folder):
    found = [Path(entry.path).resolve() for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]
    return [path for path in found if path.is_relative_to(folder)]


async def test_who_is_stopped_when_there_is_no_room_for_what_came_leaves_no_file_open(yard, monkeypatch):
    made = await yard(LARGE)
    made.store.script = [lambda answer: replace(answer, hold_at=BLOCK_BYTES + 200_000)]
    write, writes = PartialFile.write, []

    async def refused(part, block):
        writes.append(block)
        if len(writes) > 1:
            raise DestinationError(Reason.DISK_FULL, "no room")
        await write(part, block)

    monkeypatch.setattr(PartialFile, "write", refused)
    fetch = asyncio.ensure_future(made.fetch())
    await made.arrived(BLOCK_BYTES + 200_000)
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    made.store.release.set()
    assert len(writes) == 2
    assert open_files(made.sink.state.path) == []


async def test_who_is_stopped_while_room_is_asked_for_keeps_none(yard, monkeypatch):
    made = await yard(LARGE)
    made.store.script = [cut(2_000_000), status(410)]
    await made.fetch()
    asking, may_end, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop, resume = asyncio.get_running_loop(), PartialFile._resume

    def slow(part, state):
        loop.call_soon_threadsafe(asking.set)
        may_end.wait(10)
        resume(part, state)
        ended.set()

    monkeypatch.setattr(PartialFile, "_resume", slow)
    fetch = asyncio.ensure_future(made.fetch())
    await asking.wait()
    fetch.cancel()
    await wait_until_idle()
    may_end.set()
    await asyncio.wait([fetch])
    await asyncio.to_thread(ended.wait, 10)
    assert made.sink.state.reservations.reserved_bytes == 0
