"""The IDs and folders of the STAC catalogue, made of names from a server."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.processors.catalog.files import find_entry_file, normalise_path
from bulkdl.processors.catalog.ids import ItemIds, container_folder

TASK = "e40ec779-79b8-47d1-92c2-f4bbd332e590"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("S2A_MSIL2A.tif", "e40ec779-S2A_MSIL2A.tif"),
        ("../../etc/passwd", "e40ec779-etc-passwd"),
        ('"><img src=x onerror=alert(1)>', "e40ec779-img-src-x-onerror-alert-1"),
        ("Zürich Süd", "e40ec779-Zurich-Sud"),
        ("\x00\n\u202e", "e40ec779-output"),
        ("", "e40ec779-output"),
        ("東京", "e40ec779-output"),
    ],
)
def test_item_ids_any_name_becomes_a_safe_file_name(name: str, expected: str) -> None:
    assert ItemIds().add(TASK, [name]) == expected


def test_item_ids_equal_names_differ_without_regard_to_case() -> None:
    ids = ItemIds()
    assert [ids.add(TASK, [name]) for name in ("a", "A", "a", "a-2")] == [
        "e40ec779-a",
        "e40ec779-A-2",
        "e40ec779-a-3",
        "e40ec779-a-2-2",
    ]


@given(st.lists(st.text(max_size=30), max_size=20))
def test_item_ids_any_names_are_unique_and_safe(names: list[str]) -> None:
    ids = ItemIds()
    found = [ids.add(TASK, [name]) for name in names]
    assert len({identity.lower() for identity in found}) == len(names)
    assert all(identity.isascii() and "/" not in identity and identity[0] != "." for identity in found)
    assert not {"catalog", "collection"} & set(found)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_container_folder_different_containers_have_different_folders(one: str, other: str) -> None:
    folders = [container_folder("scope", identity) for identity in (one, other)]
    folded = {unicodedata.normalize("NFKC", folder).casefold() for folder in folders}
    assert len(folded) == len({one, other})
    assert all(folder.count("/") == 1 for folder in folders)


def test_container_folder_of_reserved_scope_is_changed() -> None:
    assert container_folder("page", "a").startswith("page~")
    assert container_folder("items.parquet", "a") != "items.parquet/a"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.tif", "a.tif"),
        ("./x//a.tif", "x/a.tif"),
        ("output/a.tif", "a.tif"),
        ("/data/output/MCD43A4.tif", "MCD43A4.tif"),
        ("output", "output"),
        ("/etc/passwd", None),
        ("../a.tif", None),
        ("x/../../a", None),
        ("a\\b", None),
        ("a\x00b", None),
        ("", None),
        ("x" * 2000, None),
    ],
)
def test_normalise_path_stays_in_the_folder(path: str, expected: str | None) -> None:
    assert normalise_path(path) == expected


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["x/IMG.jp2", "x/DIM_SPOT.XML", "x/LOOK.JPG"], "x/DIM_SPOT.XML"),
        (["s.SAFE/manifest.safe", "s.SAFE/a.jp2"], "s.SAFE/manifest.safe"),
        (["b/deep/a.tif", "b/a.tif"], "b/a.tif"),
        (["readme.txt"], None),
    ],
)
def test_find_entry_file_returns_what_programs_open(members: list[str], expected: str | None) -> None:
    assert find_entry_file(members) == expected
