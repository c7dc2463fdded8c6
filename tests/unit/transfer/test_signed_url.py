"""Tests of SignedUrl: source, expiry, and that a signature is never shown."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from bulkdl.transfer.remote_files import SignedUrl

NOW = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)


V2 = "https://storage.googleapis.com/bucket/a%2Fb/out.tgz?GoogleAccessId=x%40y&Expires=1709294520&Signature=s%2F1%3D"
V4 = (
    "https://storage.googleapis.com/bucket/out.tgz?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=c"
    "&X-Goog-Date=20240301T115900Z&X-Goog-Expires=180&X-Goog-SignedHeaders=host&X-Goog-Signature=5ec2e7"
)


@pytest.mark.parametrize(
    ("url", "source", "expires_at"),
    [
        (V2, "https://storage.googleapis.com/bucket/a%2Fb/out.tgz", NOW + timedelta(minutes=2)),
        (V4, "https://storage.googleapis.com/bucket/out.tgz", NOW + timedelta(minutes=2)),
        ("http://me:secret@h:81/x?Signature=s#part", "http://h:81/x", None),
        ("http://h/x", "http://h/x", None),
        ("http://h/x?Expires=soon", "http://h/x", None),
        ("http://h/x?Expires=99999999999999999999", "http://h/x", None),
        ("http://h/x?X-Goog-Expires=5", "http://h/x", None),
        ("http://h/x?X-Goog-Date=20240301T115900Z&X-Goog-Expires=99999999999999", "http://h/x", None),
        ("http://h/x?X-Goog-Date=yesterday&X-Goog-Expires=5", "http://h/x", None),
        ("http://h/x?response-content-disposition=attachment&Signature=s", "http://h/x", None),
    ],
)
def test_parse_reads_source_and_expiry(url, source, expires_at):
    signed = SignedUrl.parse(url)
    assert (signed.source, signed.expires_at) == (source, expires_at)
    assert str(signed.url) == url


def test_is_valid_at_without_expiry_is_true():
    assert SignedUrl.parse("http://h/x").is_valid_at(NOW, 5)


@pytest.mark.parametrize(
    ("now_s", "margin_s", "valid"), [(0, 0, True), (114, 5, True), (115, 5, False), (120, 0, False)]
)
def test_is_valid_at_near_the_expiry_respects_the_margin(now_s, margin_s, valid):
    assert SignedUrl.parse(V2).is_valid_at(NOW + timedelta(seconds=now_s), margin_s) is valid


@pytest.mark.parametrize("url", [V2, V4])
def test_signed_url_in_text_does_not_show_the_signature(url):
    signed = SignedUrl.parse(url)
    for text in (repr(signed), str(signed), signed.source, signed.host):
        assert "5ec2e7" not in text
        assert "s%2F1" not in text
        assert "Signature" not in text


_NAMES = st.sampled_from(["id", "generation", "token", "Expires", "Signature", "X-Goog-Signature"])
_QUERY = st.lists(st.tuples(_NAMES, st.text("abc=&%/é", max_size=4)), max_size=3)


@settings(deadline=None)
@given(
    st.sampled_from(["/a", "/b", "/a%2Fb", "/a/b"]),
    _QUERY,
    st.sampled_from(["/a", "/b", "/a%2Fb", "/a/b"]),
    _QUERY,
)
def test_source_of_two_urls_is_equal_only_for_the_same_object(path, query, other_path, other_query):
    def parsed(path, pairs):
        return SignedUrl.parse(str(URL("http://h").join(URL(path, encoded=True)).with_query(pairs)))

    def chosen(pairs):
        return sorted(pair for pair in pairs if pair[0] in ("id", "generation", "token"))

    same = (path, chosen(query)) == (other_path, chosen(other_query))
    assert (parsed(path, query).source == parsed(other_path, other_query).source) is same


def test_source_with_selecting_parameters_has_only_their_hash():
    source = SignedUrl.parse("http://h/download?token=can4ry&Expires=1").source
    assert source.startswith("http://h/download#")
    assert "can4ry" not in source
