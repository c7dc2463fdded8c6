"""The files that the page consists of. tests/browser opens them in browsers."""

import base64
import hashlib
import json
import re
import tracemalloc
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from bulkdl.processors.catalog.facts import CatalogFile, CatalogOutput
from bulkdl.processors.catalog.page.columns import MAX_RING_POINTS, MAX_TITLE_CHARS
from bulkdl.processors.catalog.page.details import MAX_FILES, MAX_PROPERTIES_CHARS
from support.catalog_pages import (
    create_box,
    create_container,
    create_entry,
    create_failed_entry,
    create_hostile_container,
    read_element,
    read_page,
)
from support.page_entries import generate_containers, write_page

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
# The published files of npm, so that a change of a vendored file is deliberate.
_VENDORED = {
    "leaflet/leaflet.js": "db49d009c841f5ca34a888c96511ae936fd9f5533e90d8b2c4d57596f4e5641a",
    "leaflet/leaflet.css": "a7837102824184820dfa198d1ebcd109ff6d0ff9a2672a074b9a1b4d147d04c6",
    "world_atlas/countries-110m.json": "2516c915867c7baf18ddec727aec46c315541a07cfb3d79a6559b05d5e94eee8",
}


def _read_details(index: Path, number: int = 0) -> list[dict[str, Any]]:
    text = (index.parent / f"catalog/page/{number:04}.js").read_text()
    found = re.fullmatch(r'bulkdl\.receiveDetails\("([0-9a-f]{16})",(\d+),(.*)\);\n', text)
    assert found
    assert int(found.group(2)) == number
    details: list[dict[str, Any]] = json.loads(found.group(3))
    return details


def test_page_columns_hold_the_values_of_all_entries(tmp_path: Path) -> None:
    container = create_container(
        create_entry("scene.tif", footprint=create_box(13, 52, 14, 53.5)),
        create_failed_entry("broken.tif", datetime=None, start="1969-12-31T23:59:00Z", datetime_source="job"),
        create_entry(
            "island.tif", footprint=create_box(178, -18, -178, -16), datetime=None, datetime_source=""
        ),
    )
    meta, columns = read_page(write_page(tmp_path, [container]))
    assert meta["count"] == 3
    assert columns["titles"] == "scene.tif\nbroken.tif\nisland.tif\n"
    assert [meta["states"][state] for state in columns["state"]] == ["completed", "failed", "completed"]
    assert [meta["reasons"][reason] for reason in columns["reason"]] == [
        "downloaded",
        "checksum_mismatch",
        "downloaded",
    ]
    assert columns["minute"][1:] == (-1, -(2**31))
    assert columns["flags"] == (0, 2, 4)
    assert columns["rings"] == (1, 0, 2)
    assert columns["points"] == (4, 4, 4)
    assert columns["coordinates"][:8] == (13_000_000, 52_000_000, 1_000_000, 0, 0, 1_500_000, -1_000_000, 0)
    scope, job, name, status, _created, _folder = json.loads(columns["containers"])[0]
    assert (meta["scopes"][scope][1], name, status) == ("river project", "flood map", "SUCCEEDED")
    assert job == container.id


def test_page_without_entries_is_valid(tmp_path: Path) -> None:
    meta, columns = read_page(write_page(tmp_path, []))
    assert meta["count"] == 0
    assert columns["containers"] == "[]"
    assert list((tmp_path / "catalog/page").iterdir()) == []


def test_details_are_written_to_files_of_1000_entries(tmp_path: Path) -> None:
    containers = list(generate_containers(2_005))
    index = write_page(tmp_path, containers)
    entries = [entry for container in containers for entry in container.entries]
    assert sorted(path.name for path in (tmp_path / "catalog/page").iterdir()) == [
        "0000.js",
        "0001.js",
        "0002.js",
    ]
    read = [detail for number in range(3) for detail in _read_details(index, number)]
    assert [detail["id"] for detail in read] == [entry.id for entry in entries]
    complete = next(place for place, entry in enumerate(entries) if entry.files)
    paths = [f"{read[complete]['base']}/{file['path']}" for file in read[complete]["files"]]
    assert paths == [file.href for file in entries[complete].files]


def test_policy_lists_the_hash_of_every_script_and_no_other_source(tmp_path: Path) -> None:
    page = write_page(tmp_path, [create_container(create_entry("scene.tif"))]).read_text()
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert found
    policy = dict(part.split(" ", 1) for part in found.group(1).split("; "))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in _SCRIPT.findall(page)
    }
    assert policy.pop("default-src") == "'none'"
    assert set(policy.pop("script-src").split()) == hashes | {"'self'", "file:"}
    style = hashlib.sha256(_STYLE.findall(page)[0].encode()).digest()
    assert policy.pop("style-src") == f"'sha256-{base64.b64encode(style).decode()}'"
    assert policy.pop("img-src") == "'self' file: data:"
    assert policy == {"base-uri": "'none'", "form-action": "'none'"}
    assert len(hashes) == 10
    # A policy of a meta element applies to the content that follows it.
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_hostile_text_cannot_end_a_script_element(tmp_path: Path) -> None:
    clean = write_page(tmp_path / "clean", [create_container(create_entry("scene.tif"))]).read_text()
    index = write_page(tmp_path / "hostile", [create_hostile_container()])
    page = index.read_text()
    assert page.count("<script") == clean.count("<script")
    assert page.count("</script") == clean.count("</script")
    assert "<" not in (tmp_path / "hostile/catalog/page/0000.js").read_text()
    assert "<" not in read_element(page, "meta")


def test_scripts_never_read_text_as_html() -> None:
    folder = files("bulkdl.processors.catalog.page") / "assets"
    scripts = [entry for entry in folder.iterdir() if entry.name.endswith(".js")]
    assert len(scripts) == 9
    for script in scripts:
        text = script.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        )
        assert not re.search(r"https?://", text)
        assert "</script" not in text


@pytest.mark.parametrize("name", ["leaflet/LICENSE", "world_atlas/LICENSE", *_VENDORED])
def test_vendored_files_are_unchanged_and_have_a_licence(name: str) -> None:
    content = (files("bulkdl.processors.catalog.page") / "vendor" / name).read_bytes()
    if name in _VENDORED:
        assert hashlib.sha256(content).hexdigest() == _VENDORED[name]
    else:
        assert b"Permission to use" in content or b"Redistribution and use" in content


def test_sizes_of_untrusted_values_are_bounded(tmp_path: Path) -> None:
    ring = tuple((place / 1000, 10 + place % 2) for place in range(5_000))
    entry = create_entry(
        "x" * 10_000 + "\n\u202e",
        footprint=type(create_box(0, 0, 1, 1))((((*ring, ring[0]),),) * 100, (0, 10, 5, 11)),
        files=tuple(CatalogFile(f"data-{place}", "data", f"a/{place}") for place in range(500)),
        provider_properties={f"name {place}": "x" * 5_000 for place in range(500)},
        outputs=tuple(CatalogOutput(f"kind {place}", "", "") for place in range(500)),
    )
    index = write_page(tmp_path, [create_container(entry)])
    meta, columns = read_page(index)
    assert len(columns["titles"]) == MAX_TITLE_CHARS + 1
    assert len(columns["points"]) <= 16
    assert max(columns["points"]) <= MAX_RING_POINTS
    assert len(meta["kinds"]) <= 31
    (detail,) = _read_details(index)
    assert len(detail["files"]) == MAX_FILES
    assert detail["filesLeftOut"] == 500 - MAX_FILES
    assert detail["arePropertiesCut"]
    assert sum(map(len, detail["providerProperties"].values())) <= MAX_PROPERTIES_CHARS


def test_titles_with_control_characters_stay_one_line(tmp_path: Path) -> None:
    container = create_container(
        create_entry("a\nb\u2028c\x1b[31m"), create_entry("\udcff"), create_entry("")
    )
    _, columns = read_page(write_page(tmp_path, [container]))
    assert columns["titles"] == "a\ufffdb\ufffdc\ufffd[31m\n\ufffd\n\n"


def test_writer_holds_only_the_columns_in_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        write_page(tmp_path, generate_containers(2_500))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    written_bytes = sum(path.stat().st_size for path in (tmp_path / "catalog/page").iterdir())
    assert written_bytes > 2_500_000
    # The details of 1,000 entries as objects and as text, the columns and the template.
    assert peak_bytes < 10_000_000
