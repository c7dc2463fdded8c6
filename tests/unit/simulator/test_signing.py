from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.simulator.signing import SignatureStatus, Signer


@given(st.text("abc/", min_size=1))
def test_signature_contains_escaped_slashes_and_equals(path: str) -> None:
    query = Signer(120).sign(path).partition("Signature=")[2]
    assert "%2F" in query
    assert query.endswith("%3D%3D")


@given(st.integers(0, 10_000))
def test_check_detects_any_changed_byte(place: int) -> None:
    signer = Signer(120)
    good = signer.sign("/bucket/object")
    at = place % len(good)
    bad = good[:at] + ("a" if good[at] != "a" else "b") + good[at + 1 :]
    assert signer.check(good)[0] is SignatureStatus.VALID
    assert signer.check(bad)[0] is not SignatureStatus.VALID


def test_check_returns_the_status_and_expiry() -> None:
    signer = Signer(120)
    old = signer.sign("/o")
    signer.expire_all()
    assert signer.check(old)[0] is SignatureStatus.EXPIRED
    assert signer.check(signer.sign("/o"))[0] is SignatureStatus.VALID
    assert Signer(-5).check("/o")[0] is SignatureStatus.MISSING
    late = Signer(-5)
    assert late.check(late.sign("/o"))[0] is SignatureStatus.EXPIRED
    assert signer.check(Signer(120).sign("/o"))[0] is SignatureStatus.INVALID


@pytest.mark.parametrize("change", [("%2F", "/"), ("%3D", "="), ("&Expires", "&x=1&Expires")])
def test_check_rejects_an_equivalent_url(change: tuple[str, str]) -> None:
    signer = Signer(120)
    assert signer.check(signer.sign("/o").replace(*change))[0] is SignatureStatus.INVALID


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_disposition_is_part_of_the_signature(disposition: str) -> None:
    signer = Signer(120)
    url = signer.sign("/bucket/object", disposition)
    assert parse_qs(urlsplit(url).query)["response-content-disposition"] == [disposition]
    assert signer.check(url)[0] is SignatureStatus.VALID
    without = url.partition("?")[0] + "?" + url.partition("&")[2]
    assert signer.check(without)[0] is SignatureStatus.INVALID
    assert signer.check(signer.sign("/bucket/object").replace("?", "?response-content-disposition=x&"))[
        0
    ] is (SignatureStatus.INVALID)
