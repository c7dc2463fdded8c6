from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.redaction import Redactor

CANARY = "cAnArY-9f8e7d"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
SIGNED = (
    "https://storage.example/bucket/o?GoogleAccessId=sa%40x&Expires=1700000000&Signature=cAnArY%2F9f8e7d%3D"
)


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://s.example/o?Expires=1&Signature={CANARY}&x=1",
        f"GET https://s.example/o?X-Goog-Signature={CANARY}",
        f"GET https://s.example/o?X-Amz-Signature={CANARY}",
        f"redirect to https%3A%2F%2Fs.example%2Fo%3FSignature%3D{CANARY}",
        f"Authorization: Basic {CANARY}",
        f"authorization: Bearer {CANARY}",
        f"'Authorization': '{CANARY}'",
        f"{{'Authorization': 'Bearer {CANARY}'}}",
        f"Bearer {CANARY}",
        f'{{"access_token": "{CANARY}", "token_type": "bearer"}}',
        f"grant_type=password&username=me&password={CANARY}",
        f"https://me:{CANARY}@api.example/x",
        f"Cookie: session; cookie={CANARY}",
    ],
)
def test_redact_masks_secrets_by_their_format(text):
    assert CANARY not in Redactor().text(text)
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
    redactor.register(CANARY)

    class Odd:
        def __str__(self):
            return f"Odd({CANARY})"

    event = {
        "event": f"x {CANARY}",
        "nested": {"list": [{"tuple": (CANARY, {CANARY}, frozenset({CANARY}))}]},
        "bytes": CANARY.encode(),
        "more": [bytearray(CANARY.encode()), memoryview(CANARY.encode())],
        "object": Odd(),
        "error": ValueError(CANARY),
        CANARY: 1,
    }
    assert CANARY not in repr(redactor(None, "info", event))


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
        CANARY,
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
    redactor.register(CANARY)
    assert repr(redactor(None, "info", event)) == repr(redactor.value(event))


def test_redactor_accepts_unusual_keys():
    assert Redactor()(None, "info", {1: "x", "event": "y"}) == {"1": "x", "event": "y"}
