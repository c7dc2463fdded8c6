"""The entries of jobs and deliveries, made of ledger rows, documents and files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bulkdl.processors.catalog.entries import create_container, create_entries
from bulkdl.processors.catalog.entry_codec import decode_entry, encode_entry
from bulkdl.processors.catalog.facts import CatalogEntry
from bulkdl.processors.catalog.features import MAX_FEATURES
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.records import LedgerContainer, LedgerOutput
from bulkdl.processors.catalog.stac_items import item_document

TASK = "e40ec779-79b8-47d1-92c2-f4bbd332e590"
RING = [[13, 52], [14, 52], [14, 53], [13, 53], [13, 52]]


class Directory:
    """An output directory with one container."""

    def __init__(self, root: Path, source: str = "jobs") -> None:
        self.root, self.source = root, source
        self.outputs: list[LedgerOutput] = []

    def write(self, key: str, content: bytes | dict[str, Any]) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    def add(
        self,
        kind: str,
        key: str = "",
        content: bytes | dict[str, Any] = b"x",
        *,
        parent: str = TASK,
        name: str = "",
        state: str = "completed",
        reason: str = "downloaded",
        digest: str = "",
    ) -> None:
        if key:
            self.write(key, content)
        self.outputs.append(
            LedgerOutput(parent, kind, name, state, reason, "the cause", key, 1, digest or f"crc32c={key}")
        )

    def entries(self) -> tuple[CatalogEntry, ...]:
        container = self.container()
        entries = create_entries(container, OutputTree(self.root, "", self.root / ".manifests"))
        for entry in entries:  # each entry can be cached and written as JSON
            values = json.loads(json.dumps(encode_entry(entry), allow_nan=False))
            assert encode_entry(decode_entry(values)) == encode_entry(entry)
            json.dumps(item_document(create_container(container, entries), entry), allow_nan=False).encode()
        assert len({entry.id.lower() for entry in entries}) == len(entries)
        return entries

    def container(self) -> LedgerContainer:
        return LedgerContainer(
            source=self.source,
            scope="p",
            id="c0ffee00-1111",
            name="a job",
            status="SUCCEEDED",
            created_at="2020-01-01T00:00:00Z",
            finished_at="2020-01-01T01:00:00Z",
            failure="",
            failure_detail="",
            outputs=tuple(self.outputs),
            document_key=lambda name, folder: f"{folder or 'doc'}/{name}.json",
        )


@pytest.fixture
def job(tmp_path: Path) -> Directory:
    return Directory(tmp_path)


@pytest.fixture
def delivery(tmp_path: Path) -> Directory:
    return Directory(tmp_path, "storage")


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


def feature(identity: Any = "scene", **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "id": identity,
        "geometry": {"type": "Polygon", "coordinates": [RING]},
        "properties": {"up42.data_path": f"{identity}.tif", **properties},
    }


def test_job_features_become_entries_with_files_and_dates(job: Directory) -> None:
    job.add("archive", "t/task_output.tar.gz")
    job.add(
        "geojson", "t/o.json", collection(feature("a", acquisitionDate="2019-01-01T00:00:00Z"), feature("b"))
    )
    job.add("quicklook", "t/a.jpg", name="a.jpg")
    first, second = job.entries()
    assert (first.title, first.datetime, first.state) == ("a", "2019-01-01T00:00:00Z", "completed")
    assert (second.datetime, second.start, second.datetime_source) == (None, "2020-01-01T00:00:00Z", "job")
    assert [file.role for file in first.files] == ["archive", "thumbnail", "metadata"]
    assert first.data is not None
    assert first.data.member == "a.tif"
    assert [file.role for file in second.files] == ["archive", "metadata"]
    assert first.footprint is not None


def test_job_document_names_task_block_and_times(job: Directory) -> None:
    job.write(
        "doc/job.json", {"data": {"startedAt": "2020-01-01T00:10:00Z", "finishedAt": "2020-01-01T00:50:00Z"}}
    )
    task = {"id": TASK, "name": "tiling:1", "blockVersion": "1.2", "block": {"name": "tiling"}}
    job.write("doc/job_tasks.json", {"data": [task, "nonsense", {"id": 7}]})
    job.add("archive", "t/task_output.tar.gz")
    (entry,) = job.entries()
    assert (entry.parent_name, entry.block) == ("tiling:1", "tiling")
    assert (entry.start, entry.end) == ("2020-01-01T00:10:00Z", "2020-01-01T00:50:00Z")
    assert entry.properties["processing:software"] == {"tiling": "1.2"}


def test_job_failed_and_skipped_outputs_are_entries_with_a_hint(job: Directory) -> None:
    job.add("archive", state="failed", reason="stalled")
    job.add("geojson", "t/o.json", collection(feature("a")))
    job.add("quicklook", name="a.jpg", state="failed", reason="throttled")
    job.add("quicklook", name="b.jpg", state="skipped", reason="not_available")
    archive, first, second = job.entries()
    assert (archive.state, archive.reason, archive.detail) == ("failed", "stalled", "the cause")
    assert "run the same command again" in archive.hint
    assert archive.data is None
    assert (first.state, first.kinds) == ("failed", ("quicklook",))
    assert first.footprint == archive.footprint is not None
    assert (second.state, second.hint) == ("skipped", "")


def test_job_archive_that_is_the_archive_of_a_task_is_listed_once(job: Directory) -> None:
    job.add("archive", "j/final_output.tar.gz", parent="", digest="crc32c=same")
    job.add("archive", "t/task_output.tar.gz", digest="crc32c=same")
    assert [entry.parent_id for entry in job.entries()] == [TASK]


def test_job_output_of_its_own_is_listed(job: Directory) -> None:
    job.add("archive", "j/final_output.tar.gz", parent="")
    (entry,) = job.entries()
    assert entry.id.startswith("c0ffee00-")


def test_job_missing_file_is_a_note_and_no_link(job: Directory) -> None:
    job.add("archive", "t/task_output.tar.gz")
    (job.root / "t/task_output.tar.gz").unlink()
    (entry,) = job.entries()
    assert entry.files == ()
    assert "is missing" in entry.notes[0]


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"", "not a valid FeatureCollection"),
        (b"\xff\xfe{}", "not a valid FeatureCollection"),
        (b"[1, 2]", "not a valid FeatureCollection"),
        (b'{"features": {}}', "not a valid FeatureCollection"),
        (b"[" * 100_000, "not a valid FeatureCollection"),
        (b'{"features": [{"id": 1' + b"0" * 5000 + b"}]}", "not a valid FeatureCollection"),
    ],
)
def test_job_invalid_data_json_gives_one_entry_with_a_note(job: Directory, content: bytes, note: str) -> None:
    job.add("archive", "t/task_output.tar.gz")
    job.add("geojson", "t/o.json", content)
    (entry,) = job.entries()
    assert any(note in text for text in entry.notes)
    assert entry.footprint is None


def test_job_many_features_are_bounded_with_a_note(job: Directory) -> None:
    job.add("geojson", "t/o.json", collection(*({"id": number} for number in range(MAX_FEATURES + 5))))
    entries = job.entries()
    assert len(entries) == MAX_FEATURES
    assert f"first {MAX_FEATURES} features" in entries[0].notes[0]


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        [],
        "text",
        {"type": "Feature"},
        {"id": {"a": 1}, "properties": [], "geometry": "x", "bbox": {}},
        feature('"><img src=x onerror=alert(1)>'),
        feature("../../../etc/passwd", **{"up42.data_path": "/etc/passwd"}),
        feature("a</script>", title="\ud800", clouds=float("nan")),
        feature("\x00\u202e", number=10**400, cloudCover=10**400, timestamp=10**400),
        {**feature("x"), "bbox": [10**400, 0, 1, 2]},
        feature("y", acquisition="text", orbit=[1], contentDescription=7, identification=3),
        feature(True),
        feature(10**40),
        feature("n" * 5000, **{"up42.data_path": "p" * 5000}),
    ],
)
def test_job_hostile_feature_never_breaks_the_catalogue(job: Directory, hostile: Any) -> None:
    job.add("archive", "t/task_output.tar.gz")
    job.add("geojson", "t/o.json", collection(hostile, feature("good")))
    entries = job.entries()
    assert entries[-1].title == "good"
    for entry in entries:
        assert entry.id.isascii()
        assert "/" not in entry.id
        assert all(not file.href.startswith(("/", "..")) for file in entry.files)


def test_delivery_item_has_the_assets_of_its_document(delivery: Directory) -> None:
    delivery.write("doc/delivery.json", {"items": {"item-1": "folder"}})
    item = {
        "id": "item-1",
        "geometry": {"type": "Polygon", "coordinates": [RING]},
        "properties": {"datetime": "2021-01-01T00:00:00Z", "eo:cloud_cover": 5, "title": "Scene 1"},
        "assets": {
            "b01.tiff": {"href": "https://api.example.org/v2/assets/aaaa-1", "title": "Band 1"},
            "preview.jpg": {"href": "https://api.example.org/v2/assets/bbbb-2"},
        },
    }
    delivery.write("folder/item.json", item)
    delivery.add("preview", "d/preview.jpg", parent="item-1", name="bbbb-2")
    delivery.add("asset", "d/b01.tiff", parent="item-1", name="aaaa-1")
    delivery.add("asset", parent="item-1", name="cccc-3", state="failed", reason="not_found")
    scene, problem = delivery.entries()
    assert (scene.title, scene.datetime, scene.properties["eo:cloud_cover"]) == (
        "Scene 1",
        "2021-01-01T00:00:00Z",
        5,
    )
    assert [(file.name, file.role, file.title) for file in scene.files] == [
        ("b01.tiff", "data", "Band 1"),
        ("preview.jpg", "thumbnail", ""),
    ]
    assert (problem.state, problem.footprint) == ("failed", scene.footprint)


def test_delivery_original_covers_its_items_and_is_not_repeated(delivery: Directory) -> None:
    delivery.write("doc/delivery.json", {"items": {"item-1": "folder"}})
    delivery.write("folder/item.json", {"geometry": {"type": "Polygon", "coordinates": [RING]}})
    delivery.add("asset", "d/a.tif", parent="item-1", name="aaaa", digest="crc32c=a")
    delivery.add("original", "d/a-copy.tif", parent="", name="aaaa", digest="crc32c=a")
    delivery.add("original", "d/o.zip", parent="", name="oooo")
    scene, original = delivery.entries()
    assert original.title == "o.zip"
    assert original.footprint == scene.footprint


@pytest.mark.parametrize("document", [b"", b"[]", b'{"assets": [], "properties": 3, "geometry": []}'])
def test_delivery_invalid_item_document_gives_an_entry_with_a_note(
    delivery: Directory, document: bytes
) -> None:
    delivery.write("doc/delivery.json", {"items": {"item-1": "folder"}})
    delivery.write("folder/item.json", document)
    delivery.add("asset", "d/a.tif", parent="item-1", name="aaaa")
    (entry,) = delivery.entries()
    assert entry.notes
    assert entry.data is not None


def test_outputs_of_another_source_are_entries(tmp_path: Path) -> None:
    other = Directory(tmp_path, "directories")
    other.add("file", "a/b.txt", parent="", name="b.txt")
    (entry,) = other.entries()
    assert (entry.title, entry.state) == ("b.txt", "completed")
