"""Redaction masks secrets, and works in linear time on any text from a server."""

import itertools
import re._constants as codes
import re._parser as parser
import time
from urllib.parse import quote

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


SECRET = "cAnArY-9f8e7d"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
SIGNED = (
    "https://storage.example/bucket/o?GoogleAccessId=sa%40x&Expires=1700000000&Signature=cAnArY%2F9f8e7d%3D"
)


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://s.example/o?Expires=1&Signature={SECRET}&x=1",
        f"GET https://s.example/o?X-Goog-Signature={SECRET}",
        f"GET https://s.example/o?X-Amz-Signature={SECRET}",
        f"redirect to https%3A%2F%2Fs.example%2Fo%3FSignature%3D{SECRET}",
        f"Authorization: Basic {SECRET}",
        f"authorization: Bearer {SECRET}",
        f"'Authorization': '{SECRET}'",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"Bearer {SECRET}",
        f'{{"access_token": "{SECRET}", "token_type": "bearer"}}',
        f"grant_type=password&username=me&password={SECRET}",
        f"https://me:{SECRET}@api.example/x",
        f"Cookie: session; cookie={SECRET}",
    ],
)
def test_redact_masks_secrets_by_their_format(text):
    assert SECRET not in Redactor().text(text)
    assert "***" in Redactor().text(text)


@pytest.mark.parametrize("text", [JWT, f"token {JWT} refused", f"({JWT})", JWT.rsplit(".", 1)[0]])
def test_redact_masks_tokens_by_their_format(text):
    assert "eyJ" not in Redactor().text(text)


def test_redact_keeps_other_text():
    text = (
        "GET https://s.example/bucket/o?GoogleAccessId=sa&Expires=1700000000: 403, 12 of 40 bytes, task 3f2a"
    )
    assert Redactor().text(text) == text
    assert Redactor().value(
        {"key": "p/j/final_output.tar.gz", "size_bytes": 7, "ok": True, "none": None}
    ) == {
        "key": "p/j/final_output.tar.gz",
        "size_bytes": 7,
        "ok": True,
        "none": None,
    }


def test_redact_keeps_the_path_of_a_signed_url():
    assert Redactor().text(SIGNED).endswith("Expires=1700000000&Signature=***")


@given(st.text(min_size=4, max_size=30), st.text(max_size=10), st.text(max_size=10))
def test_redact_masks_a_registered_secret(secret, before, after):
    redactor = Redactor()
    redactor.register(secret)
    masked = redactor.text(f"{before}|{secret}|{after}")
    assert masked.count(secret) <= "|***|".count(secret) + before.count(secret) + after.count(secret)
    assert f"|{secret}|" not in masked or secret in "|***|"


@pytest.mark.parametrize("form", [str, lambda s: quote(s, safe=""), repr])
def test_redact_masks_a_registered_secret_in_encoded_forms(form):
    redactor = Redactor()
    redactor.register("pä ss/w+rd'\"\\x")
    assert "rd" not in redactor.text(f"<{form('pä ss/w+rd' + chr(39) + chr(34) + chr(92) + 'x')}>")


def test_redact_masks_the_longer_of_two_secrets_completely():
    redactor = Redactor()
    redactor.register("canary")
    redactor.register("canary-and-more")
    assert redactor.text("x canary-and-more x") == "x *** x"


def test_redact_accepts_nested_values_of_any_type():
    redactor = Redactor()
    redactor.register(SECRET)

    class Odd:
        def __str__(self):
            return f"Odd({SECRET})"

    event = {
        "event": f"x {SECRET}",
        "nested": {"list": [{"tuple": (SECRET, {SECRET}, frozenset({SECRET}))}]},
        "bytes": SECRET.encode(),
        "more": [bytearray(SECRET.encode()), memoryview(SECRET.encode())],
        "object": Odd(),
        "error": ValueError(SECRET),
        SECRET: 1,
    }
    assert SECRET not in repr(redactor(None, "info", event))


@pytest.mark.parametrize(
    "key", ["password", "api_key", "Authorization", "access_token", "token", "X-Api-Key"]
)
def test_redact_masks_values_of_sensitive_keys(key):
    assert Redactor().value({key: "swordfish"}) == {key: "***"}
    assert Redactor().value({"headers": {key: b"swordfish"}}) == {"headers": {key: "***"}}


def test_redact_ignores_short_secrets():
    redactor = Redactor()
    redactor.register("a")
    redactor.register("")
    assert redactor.text("banana") == "banana"


PIECES = st.sampled_from(
    [
        "token",
        "x_token",
        "Signature=",
        "SECRET",
        "api-key",
        "://u:p@h",
        "Bearer abcdefgh",
        "eyJ",
        JWT,
        SECRET,
        "plain",
        "é",
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=4).map("".join)


@given(
    st.dictionaries(TEXTS, st.one_of(TEXTS, st.none(), st.integers(), st.booleans(), st.floats()), max_size=5)
)
def test_redactor_result_equals_the_redaction_of_each_text(event):
    redactor = Redactor()
    redactor.register(SECRET)
    assert repr(redactor(None, "info", event)) == repr(redactor.value(event))


def test_redactor_accepts_unusual_keys():
    assert Redactor()(None, "info", {1: "x", "event": "y"}) == {"1": "x", "event": "y"}
