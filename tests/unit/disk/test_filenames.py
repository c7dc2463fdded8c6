"""File names for names that a server chose."""

import os
import string
import subprocess
import sys
import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulkdl.disk.filenames import _make_safe, safe_filenames
from bulkdl.simulator.scenarios import HOSTILE_NAMES

RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{n}" for n in range(1, 10)),
    *(f"lpt{n}" for n in range(1, 10)),
}

ANY_NAME = st.one_of(
    st.text(max_size=30),
    st.text("aAéÉ./\\ :~-_%\0\n", max_size=8),
    st.sampled_from(
        ["con", "NUL.jpg", "aux.tar.gz", "...", "a" * 300, "é" * 200, "\ud800", "ﬁ", "fi", "ß", "SS"]
    ),
    st.sampled_from(HOSTILE_NAMES),
)


def fold(name, form):
    return unicodedata.normalize(form, unicodedata.normalize(form, name).casefold())


@settings(deadline=None)
@given(st.lists(ANY_NAME, max_size=12))
@example(["Twin.jpg", "twin.JPG", "TWIN.jpg"])
@example(["caf\u00e9.jpg", "cafe\u0301.jpg"])
@example(["ﬁ.jpg", "fi.jpg"])
def test_safe_filenames_are_distinct_and_stay_in_their_folder(names):
    filenames = safe_filenames(names)
    assert set(filenames) == set(names)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert len({fold(safe, form) for safe in filenames.values()}) == len(filenames)
    for safe in filenames.values():
        assert safe
        assert PurePosixPath(safe).parts == PureWindowsPath(safe).parts == (safe,)
        assert safe not in (".", "..")
        assert len(safe.encode()) <= 255
        assert safe.split(".")[0].strip().casefold() not in RESERVED
        assert not safe.endswith((".", " "))
        assert not safe.startswith((".", " ", "-", "~"))
        assert not set(safe) & set('\0/\\:*?"<>|')
        assert all(unicodedata.category(letter)[0] != "C" for letter in safe)


@settings(deadline=None)
@given(st.lists(ANY_NAME, max_size=8), st.randoms())
def test_safe_filenames_do_not_depend_on_the_order(names, rng):
    shuffled = rng.sample(names, len(names))
    assert safe_filenames(names) == safe_filenames(shuffled)


@settings(deadline=None)
@given(ANY_NAME, ANY_NAME)
def test_safe_filenames_cannot_be_forged_by_a_hashed_name(name, suffix):
    given_name = safe_filenames([name])[name]
    filenames = safe_filenames([name, given_name])
    assert name == given_name or filenames[name] != filenames[given_name]
    assert len({safe.casefold() for safe in filenames.values()}) == len(filenames)


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "S2A_MSIL1C_20200101.png",
        "3f1c-4e5f6a7b8c9d.jpg",
        "with space (1).jpeg",
        "müll.jpg",
        "a+b,c=d@e.png",
    ],
)
def test_safe_filenames_do_not_change_safe_names(name):
    assert safe_filenames([name, "other.jpg"])[name] == name


@pytest.mark.parametrize(
    ("name", "begins", "ends"),
    [
        ("../../escaped.jpg", "escaped~", ".jpg"),
        ("/absolute.jpg", "absolute~", ".jpg"),
        ("C:\\drive.jpg", "C__drive~", ".jpg"),
        ("con.jpg", "con", ".jpg"),
        ("trailing.", "trailing~", ""),
        ("..", "unnamed~", ""),
        ("", "unnamed~", ""),
        ("l" * 296 + ".jpg", "lll", ".jpg"),
        ("?x." + "y" * 40, "x.yyy", ""),
    ],
)
def test_safe_filenames_keep_the_safe_characters(name, begins, ends):
    safe = safe_filenames([name])[name]
    assert safe.startswith(begins)
    assert safe.endswith(ends)
    assert len(safe.rpartition("~")[2].partition(".")[0]) == 12
    assert set(safe.rpartition("~")[2].partition(".")[0]) <= set(string.hexdigits)


def test_safe_filenames_with_an_ascii_file_system_encoding_are_distinct():
    """Use a separate process: the encoding is chosen when the interpreter starts."""
    code = (
        "import os, sys\n"
        "from bulkdl.simulator.scenarios import HOSTILE_NAMES\n"
        "from bulkdl.disk.filenames import safe_filenames\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "made = safe_filenames([*HOSTILE_NAMES, 'm\\u00fcll.jpg'])\n"
        "assert len(set(made.values())) == len(made)\n"
        "[os.fsencode(name) for name in made.values()]\n"
    )
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **plain}, check=True)


def test_safe_filenames_escape_letters_that_the_file_system_cannot_encode(monkeypatch):
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("ascii"))
    monkeypatch.setattr("bulkdl.disk.filenames._make_safe", _make_safe.__wrapped__)  # without the cache
    filenames = safe_filenames(["müll.jpg", "m_ll.jpg", "m%C3%BCll.jpg", "日本" * 60 + ".png", "a.jpg"])
    assert len(set(filenames.values())) == 5
    assert all(safe.isascii() and len(safe) <= 180 for safe in filenames.values())
    assert filenames["müll.jpg"].startswith("m%C3%BCll~")
    assert filenames["a.jpg"] == "a.jpg"
