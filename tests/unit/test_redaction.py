"""Redaction works in linear time on any text from a server."""

import itertools
import re._constants as codes
import re._parser as parser
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.redaction import _SERVER_SHAPES, _SHAPES, QUOTE_CHARS, Redactor, _mask_shapes, sanitize

SHAPES = [shape for shape, _ in (*_SHAPES, *_SERVER_SHAPES)]
SIZE = 64 * 1024
ATOMS = (
    *(
        ".",
        "w.",
        "-",
        "_",
        "?",
        "=",
        "?=",
        "&",
        " ",
        "\t",
        ":",
        "://",
        "a://",
        "@",
        "/",
        '"',
        "'",
        "%",
        "a",
        "1",
    ),
    *(
        "eyJ",
        "eyJabcdef.",
        "token",
        "token ",
        "token=",
        "secret",
        "api_key",
        "authorization",
        "authorization:",
    ),
    *(
        "1",
        "authorization:",
        "authorization: ",
        "bearer ",
        "basic ",
        "signature",
        "x-goog-signature",
        '"cookie"',
        "0aa51a58-6b2b-",
    ),
    *("abcdEFGH.", "\x00", "é", "\udce9", "a:b@"),
)


def starts_with_unbounded_repeat(items):
    """Return whether *items* start with an unbounded repeat that is followed by something that can fail."""
    for index, (code, argument) in enumerate(items):
        if code in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
            continue
        if code is codes.SUBPATTERN:
            return starts_with_unbounded_repeat([*argument[-1], *items[index + 1 :]])
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            _, max_repeat, _ = argument
            return max_repeat is codes.MAXREPEAT and bool(items[index + 1 :])
        return False
    return False


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.pattern[:40])
def test_pattern_does_not_start_with_an_unbounded_repeat(shape):
    assert not starts_with_unbounded_repeat(list(parser.parse(shape.pattern, shape.flags)))


@pytest.mark.parametrize("pattern", [r"[\w.-]*token", r"(?:[a-z]+)=", r"\b\w+@"])
def test_rule_detects_a_pattern_that_starts_with_an_unbounded_repeat(pattern):
    assert starts_with_unbounded_repeat(list(parser.parse(pattern)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("atom", ATOMS, ids=ascii)
def test_hostile_text_of_64_kib_does_not_hang(atom):
    text = atom * (SIZE // len(atom))
    for hostile in (text, f"?{text}", f"://{text}", f"token{text}", f"authorization:{text}", f"eyJ{text}"):
        _mask_shapes(hostile, _SERVER_SHAPES)
        Redactor().text(hostile)
        assert len(sanitize(hostile)) <= QUOTE_CHARS


@pytest.mark.timeout(60)
def test_hostile_text_of_two_alternating_atoms_does_not_hang():
    for first, second in itertools.permutations(ATOMS, 2):
        text = (first + second) * (8 * 1024 // len(first + second))
        _mask_shapes(text, _SERVER_SHAPES)
        Redactor().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "x-amz-signature=canary",
        "my.api_key: canary",
        "https://h/o?a=canary&b=1",
        "??a=canary",
        "TOKEN = 'canary'",
    ],
)
def test_sanitize_removes_values_with_any_prefix_of_their_names(text):
    assert "canary" not in sanitize(text)


CANARY = "Zk3canary0Zk3canary0Zk3canary0Zk3canary0Zk3canary0"


@pytest.mark.parametrize(
    "text",
    [
        f"bad token eyJhbGciOi.eyJ{CANARY}.{CANARY}",
        f"Authorization: Bearer {CANARY}",
        "sent bearer canary12",
        "sent Basic Y2FuYXJ5OmNhbmFyeQcanary==",
        f"see https://h/o?GoogleAccessId=a@b&Signature={CANARY}",
        "Signature=canary",
        '{"password": "canary"}',
        "api_key: 'canary'",
        "https://user:canary@host/",
        "key abcdEFGH.canary0123456789012345678901234567 unknown",
        CANARY,
        "key is s3cr3t-canary!",
    ],
)
def test_sanitize_removes_secrets(text):
    assert "canary" not in sanitize(text, secrets=("s3cr3t-canary!", ""))


@pytest.mark.parametrize(
    "text",
    [
        "Job not found for id 0aa51a58-6b2b-4b4c-8a5b-0123456789ab and userId 1aa51a58-6b2b-4b4c-8a5b-0123",
        "ACCESS_TOKEN_EXPIRED: JWT expired at 2019-11-29T11:54:38Z.",
        "Required request body is missing",
    ],
)
def test_sanitize_keeps_harmless_text(text):
    assert sanitize(text) == text


@given(st.text(max_size=600))
def test_sanitize_returns_one_short_printable_line(text):
    found = sanitize(text)
    assert len(found) <= QUOTE_CHARS
    assert found.isprintable()


@pytest.mark.parametrize("word", ["eyJ", "a", "?=", "token ", "://", ".", "w.", "a=", "-"])
def test_sanitize_of_a_long_hostile_text_needs_little_cpu_time(word):
    started = time.thread_time()  # other processes do not count
    assert len(sanitize(word * 10**6)) <= QUOTE_CHARS
    assert time.thread_time() - started < 0.1
