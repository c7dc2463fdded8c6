"""The tables of what a response means for a part."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from bulkdl.errors import TransferError
from bulkdl.models import Digest, Kind, Reason, RemoteObject, ResumeState, Validator
from bulkdl.transfer.response_rules import (
    ContinueBody,
    RetryAcceptingGzip,
    StartBody,
    can_resume,
    decide,
    is_complete,
    max_body_bytes,
    read_response_info,
    reason_for_storage_error,
    request_headers,
    xml_error_code,
)

STRONG = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT", "17")
CRC = Digest("crc32c", "yZRlqg==")
OBJECT = RemoteObject("https://storage.example/a.tgz", STRONG, 1000, (CRC,))
STATE = ResumeState(OBJECT, 600)
HONEST = {
    "Content-Type": "application/gzip",
    "Content-Length": "400",
    "Content-Range": "bytes 600-999/1000",
    "ETag": '"v1"',
    "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
    "x-goog-generation": "17",
    "x-goog-hash": "crc32c=yZRlqg==",
}


def head(status, headers=(), **changes):
    merged = CIMultiDict(headers)
    for name, value in changes.items():
        merged.pop(name.replace("_", "-"), None)
        if value is not None:
            merged[name.replace("_", "-")] = value
    return read_response_info(status, CIMultiDictProxy(merged), "https://storage.example/a.tgz")


def reason_of(status, headers=(), state=STATE, kind=Kind.ARCHIVE, **changes):
    with pytest.raises(TransferError) as raised:
        decide(head(status, headers, **changes), state, kind, accept_gzip=False)
    return raised.value.reason


@pytest.mark.parametrize("state", [None, STATE, replace(STATE, offset=0)])
def test_a_200_always_begins_anew(state):
    told = head(200, HONEST, Content_Range=None, Content_Length="1000")
    assert decide(told, state, Kind.ARCHIVE, accept_gzip=False) == StartBody(OBJECT)


def test_a_206_that_proves_itself_goes_on():
    assert decide(head(206, HONEST), STATE, Kind.ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


@pytest.mark.parametrize(
    "bare", [{"ETag": None}, {"ETag": None, "Last_Modified": None, "x_goog_generation": None}]
)
def test_a_206_may_leave_out_what_it_need_not_repeat(bare):
    told = head(206, HONEST, x_goog_hash=None, **bare)
    assert decide(told, STATE, Kind.ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Content_Range": None}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 599-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 601-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 0-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes -999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "items 600-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "rubbish"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 600-1000/1001"}, Reason.OBJECT_CHANGED),
        ({"Content_Range": "bytes 600-998/999"}, Reason.OBJECT_CHANGED),
        ({"ETag": '"v2"'}, Reason.OBJECT_CHANGED),
        ({"ETag": 'W/"v1"'}, Reason.OBJECT_CHANGED),
        ({"Last_Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}, Reason.OBJECT_CHANGED),
        ({"x_goog_generation": "18"}, Reason.OBJECT_CHANGED),
        ({"x_goog_hash": "crc32c=AAAAAA=="}, Reason.OBJECT_CHANGED),
        ({"Content_Type": "text/html"}, Reason.ERROR_PAGE),
    ],
)
def test_a_206_that_contradicts_the_part_is_refused(changes, reason):
    assert reason_of(206, HONEST, **changes) is reason


@pytest.mark.parametrize(
    "state",
    [
        None,
        replace(STATE, offset=0),
        ResumeState(replace(OBJECT, validator=Validator()), 600),
        ResumeState(replace(OBJECT, validator=Validator(etag='W/"v1"')), 600),
        ResumeState(replace(OBJECT, validator=Validator(generation="17")), 600),
    ],
)
def test_a_206_that_nobody_asked_for_is_refused(state):
    assert reason_of(206, HONEST, state) is Reason.UNEXPECTED_CONTENT


def test_a_range_with_an_unknown_total_goes_on():
    told = head(206, HONEST, Content_Range="bytes 600-999/*")
    assert decide(told, STATE, Kind.ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


def test_a_range_tells_the_total_that_was_unknown():
    unknown = ResumeState(replace(OBJECT, total_bytes=None), 600)
    assert decide(head(206, HONEST), unknown, Kind.ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (416, Reason.OBJECT_CHANGED),
        (400, Reason.REJECTED),
        (401, Reason.CREDENTIALS),
        (403, Reason.FORBIDDEN),
        (404, Reason.INVALID_RESPONSE),
        (408, Reason.SERVER_ERROR),
        (410, Reason.REJECTED),
        (429, Reason.THROTTLED),
        (500, Reason.SERVER_ERROR),
        (503, Reason.SERVER_ERROR),
        (204, Reason.UNEXPECTED_CONTENT),
        (302, Reason.REJECTED),
    ],
)
def test_other_statuses_are_failures(status, reason):
    assert reason_of(status, HONEST) is reason


PAGES = ("text/html", "text/xml", "application/xml", "application/problem+json")


@pytest.mark.parametrize(
    ("kind", "content_type", "taken"),
    [
        *((kind, page, False) for kind in Kind for page in PAGES),
        (Kind.ARCHIVE, "application/json", False),
        (Kind.QUICKLOOK, "application/json", False),
        (Kind.GEOJSON, "application/json", True),
        (Kind.GEOJSON, "text/plain", True),
        (Kind.ARCHIVE, "application/x-tar", True),
        (Kind.ARCHIVE, "", True),
        (Kind.QUICKLOOK, "application/octet-stream", True),
    ],
)
@pytest.mark.parametrize("dressed", ["{}", "{}; charset=UTF-8", " {} "])
def test_prose_is_refused_by_its_content_type(kind, content_type, taken, dressed):
    told = head(200, Content_Type=dressed.format(content_type.upper()), Content_Length="5")
    if taken:
        assert isinstance(decide(told, None, kind, accept_gzip=False), StartBody)
    else:
        with pytest.raises(TransferError, match=re.escape(content_type)) as raised:
            decide(told, None, kind, accept_gzip=False)
        assert raised.value.reason is Reason.ERROR_PAGE


def test_an_object_stored_as_gzip_is_asked_for_as_it_is_stored():
    stored = {"x-goog-stored-content-encoding": "gzip", "x-goog-stored-content-length": "77"}
    unpacked = head(200, stored)
    packed = head(200, stored, Content_Encoding="gzip", Content_Length="77")
    assert decide(unpacked, None, Kind.ARCHIVE, accept_gzip=False) == RetryAcceptingGzip()
    assert decide(packed, None, Kind.ARCHIVE, accept_gzip=True).object.total_bytes == 77
    assert isinstance(decide(unpacked, None, Kind.ARCHIVE, accept_gzip=True), StartBody)


@pytest.mark.parametrize("encoding", ["identity", "Identity", " identity ", "identity, identity", ""])
@pytest.mark.parametrize("status", [200, 206])
def test_decide_with_content_encoding_identity_takes_the_body(status, encoding):
    told = head(status, HONEST, Content_Encoding=encoding)
    assert told.content_encoding == ""
    assert told.object.total_bytes == (1000 if status == 206 else 400)
    assert decide(told, STATE, Kind.ARCHIVE, accept_gzip=False)


def test_decide_with_a_hostile_content_encoding_gives_a_printable_message():
    with pytest.raises(TransferError) as raised:
        decide(head(200, Content_Encoding="\udce9" * 5000), None, Kind.ARCHIVE, accept_gzip=False)
    assert raised.value.detail.isascii()
    assert len(raised.value.detail) < 400


UNSTORABLE = ['"\udce9"', '"a\x00b"', '"\x1b[31m"', '"\x7f"', '"' + "x" * 2000 + '"', ""]


@pytest.mark.parametrize("text", UNSTORABLE, ids=ascii)
@pytest.mark.parametrize("name", ["ETag", "Last-Modified", "x-goog-generation"])
def test_read_head_drops_a_validator_that_cannot_be_stored(name, text):
    validator = head(200, HONEST | {name: text}).object.validator
    field = {"ETag": "etag", "Last-Modified": "last_modified", "x-goog-generation": "generation"}[name]
    assert validator == replace(STRONG, **{field: None})


def test_read_head_keeps_an_etag_of_other_letters():
    assert head(200, ETag='"é"').object.validator.etag == '"é"'


@pytest.mark.parametrize("digits", ["9" * 4400, "9" * 20, "1" + "0" * 19])
def test_read_head_ignores_numbers_beyond_64_bits(digits):
    told = head(206, Content_Range=f"bytes {digits}-{digits}/{digits}", x_goog_stored_content_length=digits)
    assert (told.range_start, told.range_total, told.object.total_bytes) == (None, None, None)
    assert head(200, Content_Length=digits).length_bytes is None
    assert reason_of(206, HONEST, Content_Range=f"bytes 600-999/{digits}") is Reason.UNEXPECTED_CONTENT


def test_read_head_does_not_take_other_digits_for_a_range():
    assert head(206, Content_Range="bytes ٣-٩/٩").range_start is None


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
NOW = datetime(2024, 1, 1, 0, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"Date": "Mon, 01 Jan 2024 00:00:01 GMT"}, True),
        ({"Date": "Mon, 01 Jan 2024 00:00:00 GMT"}, False),
        ({"Date": "Sun, 31 Dec 2023 23:59:59 GMT"}, False),
        ({"Date": "rubbish"}, False),
        ({}, False),  # by our own clock, 30 s later, which may be wrong
        ({"Last-Modified": "Sun, 31 Dec 2023 23:59:00 GMT"}, True),
        ({"Last-Modified": "rubbish", "Date": DATE}, False),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Date": DATE}, False),
        ({"ETag": '"v1"'}, True),
        ({"ETag": 'W/"v1"'}, True),
    ],
)
def test_read_head_keeps_a_date_alone_only_if_it_is_strong(headers, kept):
    told = CIMultiDictProxy(CIMultiDict({"Last-Modified": DATE} | headers))
    validator = read_response_info(200, told, None, now=NOW).object.validator
    assert (validator.last_modified is not None) is kept


def test_an_encoding_that_nobody_asked_for_is_refused():
    assert reason_of(200, Content_Encoding="br", state=None) is Reason.UNEXPECTED_CONTENT


def test_the_length_of_an_encoded_body_is_not_that_of_the_object():
    assert head(200, Content_Encoding="gzip", Content_Length="50").object.total_bytes is None
    assert head(200, Content_Length="50").object.total_bytes == 50
    assert head(206, HONEST).object.total_bytes == 1000
    assert head(200, Content_Length="-5").object.total_bytes is None
    assert head(200, Content_Length="٣").object.total_bytes is None


@pytest.mark.parametrize(
    ("validator", "condition"),
    [
        (STRONG, '"v1"'),
        (Validator(etag='W/"v1"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT"), None),
        (Validator(last_modified="Mon, 01 Jan 2024 00:00:00 GMT"), STRONG.last_modified),
        (Validator(etag='W/"v1"'), None),
        (Validator(generation="17"), None),
        (Validator(), None),
    ],
)
def test_only_what_proves_the_object_makes_a_range(validator, condition):
    state = ResumeState(replace(OBJECT, validator=validator), 600)
    plain = {"Accept-Encoding": "identity"}
    ranged = plain | {"Range": "bytes=600-", "If-Range": condition}
    assert request_headers(state, accept_gzip=False) == (ranged if condition else plain)
    assert can_resume(state) is (condition is not None)


def test_nothing_is_asked_for_by_range_when_there_is_nothing():
    assert request_headers(None, accept_gzip=True) == {"Accept-Encoding": "gzip"}
    assert request_headers(replace(STATE, offset=0), accept_gzip=False) == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("at", "total", "whole"), [(1000, 1000, True), (999, 1000, False), (0, 0, False), (5, None, False)]
)
def test_a_part_is_complete_when_every_byte_is_there(at, total, whole):
    assert is_complete(ResumeState(replace(OBJECT, total_bytes=total), at)) is whole
    assert not is_complete(None)


@pytest.mark.parametrize(
    ("status", "body", "expired", "reason"),
    [
        (400, "<Code>ExpiredToken</Code>", False, Reason.URL_EXPIRED),
        (400, "<Code>RequestTimeTooSkewed</Code>", False, Reason.URL_EXPIRED),
        (400, "<Code>InvalidArgument</Code>", True, Reason.URL_EXPIRED),
        (400, "<Code>InvalidArgument</Code>", False, Reason.REJECTED),
        (401, "", False, Reason.URL_EXPIRED),
        (403, "<Code>SignatureDoesNotMatch</Code>", False, Reason.URL_EXPIRED),
        (404, "<Code>NoSuchKey</Code>", True, Reason.INVALID_RESPONSE),
        (429, "", False, Reason.THROTTLED),
        (503, "", False, Reason.SERVER_ERROR),
        (204, "", False, Reason.UNEXPECTED_CONTENT),
    ],
)
def test_what_the_storage_refuses(status, body, expired, reason):
    assert reason_for_storage_error(status, body, url_expired=expired) is reason


def test_only_a_code_is_taken_from_an_error_of_the_storage():
    secret = "<Error><Code>AccessDenied</Code><StringToSign>GET sig%2Fnature</StringToSign></Error>"
    assert xml_error_code(secret) == "AccessDenied"
    assert xml_error_code("<Code>not a code</Code>") == xml_error_code("") == ""


@pytest.mark.parametrize(
    ("kind", "announced", "most"),
    [
        (Kind.QUICKLOOK, None, 64),
        (Kind.QUICKLOOK, 64, 64),
        (Kind.QUICKLOOK, 10, 10),
        (Kind.ARCHIVE, None, None),
        (Kind.ARCHIVE, 10**12, 10**12),
    ],
)
def test_no_more_bytes_than_announced_or_allowed(kind, announced, most):
    assert max_body_bytes(kind, announced, {Kind.QUICKLOOK: 64}) == most


def test_an_announcement_over_the_ceiling_is_refused_at_once():
    with pytest.raises(TransferError) as raised:
        max_body_bytes(Kind.QUICKLOOK, 65, {Kind.QUICKLOOK: 64})
    assert raised.value.reason is Reason.TOO_LARGE
