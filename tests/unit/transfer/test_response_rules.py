"""Tests of the response rules: what a response means for a partial file."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from bulkdl.errors import TransferError
from bulkdl.models import Digest, Reason, RemoteObject, ResumeState, Validator
from bulkdl.source_spec import kind_spec
from bulkdl.sources.up42_jobs.models import Kind
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
ARCHIVE = kind_spec("archive")
MATCHING = {
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
        decide(head(status, headers, **changes), state, kind_spec(kind), accept_gzip=False)
    return raised.value.reason


@pytest.mark.parametrize("state", [None, STATE, replace(STATE, offset=0)])
def test_decide_with_a_200_starts_the_body(state):
    info = head(200, MATCHING, Content_Range=None, Content_Length="1000")
    assert decide(info, state, ARCHIVE, accept_gzip=False) == StartBody(OBJECT)


def test_decide_with_a_matching_206_continues_the_body():
    assert decide(head(206, MATCHING), STATE, ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


@pytest.mark.parametrize(
    "omitted", [{"ETag": None}, {"ETag": None, "Last_Modified": None, "x_goog_generation": None}]
)
def test_decide_with_a_206_without_optional_headers_continues_the_body(omitted):
    info = head(206, MATCHING, x_goog_hash=None, **omitted)
    assert decide(info, STATE, ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Content_Range": None}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 599-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 601-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes 0-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "bytes -999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "items 600-999/1000"}, Reason.UNEXPECTED_CONTENT),
        ({"Content_Range": "invalid"}, Reason.UNEXPECTED_CONTENT),
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
def test_decide_with_a_206_that_contradicts_the_partial_file_fails(changes, reason):
    assert reason_of(206, MATCHING, **changes) is reason


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
def test_decide_with_an_unrequested_206_fails(state):
    assert reason_of(206, MATCHING, state) is Reason.UNEXPECTED_CONTENT


def test_decide_with_an_unknown_total_continues_the_body():
    info = head(206, MATCHING, Content_Range="bytes 600-999/*")
    assert decide(info, STATE, ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


def test_decide_takes_an_unknown_total_from_the_range():
    unknown = ResumeState(replace(OBJECT, total_bytes=None), 600)
    assert decide(head(206, MATCHING), unknown, ARCHIVE, accept_gzip=False) == ContinueBody(OBJECT)


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
def test_decide_with_any_other_status_fails_with_its_reason(status, reason):
    assert reason_of(status, MATCHING) is reason


PAGES = ("text/html", "text/xml", "application/xml", "application/problem+json")


@pytest.mark.parametrize(
    ("kind", "content_type", "accepted"),
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
@pytest.mark.parametrize("template", ["{}", "{}; charset=UTF-8", " {} "])
def test_decide_rejects_content_types_of_error_pages(kind, content_type, accepted, template):
    info = head(200, Content_Type=template.format(content_type.upper()), Content_Length="5")
    if accepted:
        assert isinstance(decide(info, None, kind_spec(kind), accept_gzip=False), StartBody)
    else:
        with pytest.raises(TransferError, match=re.escape(content_type)) as raised:
            decide(info, None, kind_spec(kind), accept_gzip=False)
        assert raised.value.reason is Reason.ERROR_PAGE


def test_decide_for_an_object_stored_as_gzip_requests_the_stored_bytes():
    stored = {"x-goog-stored-content-encoding": "gzip", "x-goog-stored-content-length": "77"}
    unpacked = head(200, stored)
    packed = head(200, stored, Content_Encoding="gzip", Content_Length="77")
    assert decide(unpacked, None, ARCHIVE, accept_gzip=False) == RetryAcceptingGzip()
    assert decide(packed, None, ARCHIVE, accept_gzip=True).object.total_bytes == 77
    assert isinstance(decide(unpacked, None, ARCHIVE, accept_gzip=True), StartBody)


@pytest.mark.parametrize("encoding", ["identity", "Identity", " identity ", "identity, identity", ""])
@pytest.mark.parametrize("status", [200, 206])
def test_decide_with_content_encoding_identity_accepts_the_body(status, encoding):
    info = head(status, MATCHING, Content_Encoding=encoding)
    assert info.content_encoding == ""
    assert info.object.total_bytes == (1000 if status == 206 else 400)
    assert decide(info, STATE, ARCHIVE, accept_gzip=False)


def test_decide_with_a_hostile_content_encoding_has_a_printable_message():
    with pytest.raises(TransferError) as raised:
        decide(head(200, Content_Encoding="\udce9" * 5000), None, ARCHIVE, accept_gzip=False)
    assert raised.value.detail.isascii()
    assert len(raised.value.detail) < 400


UNSTORABLE = ['"\udce9"', '"a\x00b"', '"\x1b[31m"', '"\x7f"', '"' + "x" * 2000 + '"', ""]


@pytest.mark.parametrize("text", UNSTORABLE, ids=ascii)
@pytest.mark.parametrize("name", ["ETag", "Last-Modified", "x-goog-generation"])
def test_read_response_info_drops_a_validator_that_cannot_be_stored(name, text):
    validator = head(200, MATCHING | {name: text}).object.validator
    field = {"ETag": "etag", "Last-Modified": "last_modified", "x-goog-generation": "generation"}[name]
    assert validator == replace(STRONG, **{field: None})


def test_read_response_info_keeps_an_etag_with_non_ascii_letters():
    assert head(200, ETag='"é"').object.validator.etag == '"é"'


@pytest.mark.parametrize("digits", ["9" * 4400, "9" * 20, "1" + "0" * 19])
def test_read_response_info_ignores_numbers_beyond_64_bits(digits):
    info = head(206, Content_Range=f"bytes {digits}-{digits}/{digits}", x_goog_stored_content_length=digits)
    assert (info.range_start, info.range_total, info.object.total_bytes) == (None, None, None)
    assert head(200, Content_Length=digits).length_bytes is None
    assert reason_of(206, MATCHING, Content_Range=f"bytes 600-999/{digits}") is Reason.UNEXPECTED_CONTENT


def test_read_response_info_ignores_a_range_with_non_ascii_digits():
    assert head(206, Content_Range="bytes ٣-٩/٩").range_start is None


DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
NOW = datetime(2024, 1, 1, 0, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [
        ({"Date": "Mon, 01 Jan 2024 00:00:01 GMT"}, True),
        ({"Date": "Mon, 01 Jan 2024 00:00:00 GMT"}, False),
        ({"Date": "Sun, 31 Dec 2023 23:59:59 GMT"}, False),
        ({"Date": "invalid"}, False),
        ({}, False),  # by the local clock, 30 s later, which may be inaccurate
        ({"Last-Modified": "Sun, 31 Dec 2023 23:59:00 GMT"}, True),
        ({"Last-Modified": "invalid", "Date": DATE}, False),
        ({"Last-Modified": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "Date": DATE}, False),
        ({"ETag": '"v1"'}, True),
        ({"ETag": 'W/"v1"'}, True),
    ],
)
def test_read_response_info_keeps_a_date_without_etag_only_if_it_is_strong(headers, is_kept):
    info = CIMultiDictProxy(CIMultiDict({"Last-Modified": DATE} | headers))
    validator = read_response_info(200, info, None, now=NOW).object.validator
    assert (validator.last_modified is not None) is is_kept


def test_decide_with_an_unrequested_encoding_fails():
    assert reason_of(200, Content_Encoding="br", state=None) is Reason.UNEXPECTED_CONTENT


def test_read_response_info_takes_the_total_only_from_a_plain_length():
    assert head(200, Content_Encoding="gzip", Content_Length="50").object.total_bytes is None
    assert head(200, Content_Length="50").object.total_bytes == 50
    assert head(206, MATCHING).object.total_bytes == 1000
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
def test_request_headers_have_a_range_only_with_a_strong_validator(validator, condition):
    state = ResumeState(replace(OBJECT, validator=validator), 600)
    plain = {"Accept-Encoding": "identity"}
    ranged = plain | {"Range": "bytes=600-", "If-Range": condition}
    assert request_headers(state, accept_gzip=False) == (ranged if condition else plain)
    assert can_resume(state) is (condition is not None)


def test_request_headers_without_bytes_have_no_range():
    assert request_headers(None, accept_gzip=True) == {"Accept-Encoding": "gzip"}
    assert request_headers(replace(STATE, offset=0), accept_gzip=False) == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize(
    ("offset", "total", "complete"), [(1000, 1000, True), (999, 1000, False), (0, 0, False), (5, None, False)]
)
def test_is_complete_with_all_bytes_is_true(offset, total, complete):
    assert is_complete(ResumeState(replace(OBJECT, total_bytes=total), offset)) is complete
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
def test_reason_for_storage_error_by_status_and_body(status, body, expired, reason):
    assert reason_for_storage_error(status, body, url_expired=expired) is reason


def test_xml_error_code_returns_only_the_code():
    secret = "<Error><Code>AccessDenied</Code><StringToSign>GET sig%2Fnature</StringToSign></Error>"
    assert xml_error_code(secret) == "AccessDenied"
    assert xml_error_code("<Code>not a code</Code>") == xml_error_code("") == ""


@pytest.mark.parametrize(
    ("kind", "announced", "max_bytes"),
    [
        (Kind.QUICKLOOK, None, 64),
        (Kind.QUICKLOOK, 64, 64),
        (Kind.QUICKLOOK, 10, 10),
        (Kind.ARCHIVE, None, None),
        (Kind.ARCHIVE, 10**12, 10**12),
    ],
)
def test_max_body_bytes_is_the_announced_size_or_the_limit(kind, announced, max_bytes):
    assert max_body_bytes(kind, announced, {Kind.QUICKLOOK: 64}) == max_bytes


def test_max_body_bytes_with_an_announced_size_above_the_limit_fails():
    with pytest.raises(TransferError) as raised:
        max_body_bytes(Kind.QUICKLOOK, 65, {Kind.QUICKLOOK: 64})
    assert raised.value.reason is Reason.TOO_LARGE
