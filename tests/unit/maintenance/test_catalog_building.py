"""A catalogue of a ledger and its files: what it contains, and what a second one keeps."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.catalog_tree import ENTRIES_PER_JOB, CatalogTree
from bulkdl.concurrency import ReadStopped
from bulkdl.errors import ConfigError, DestinationError, LedgerMissingError
from bulkdl.maintenance.catalog import create_catalog
from bulkdl.processors.catalog.build import CatalogResult, has_parquet
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts

FORMATS = ("stac", "gpkg", "mosaic", "geojson", "page", *(["parquet"] if has_parquet() else []))

OUTPUTS = """
SELECT id, state, path, thumbnail, datetime, cloud_cover, width, epsg, item, job FROM outputs
"""


@pytest.fixture
def tree(tmp_path: Path) -> CatalogTree:
    made = CatalogTree(tmp_path / "out", tmp_path / "contents")
    made.add_jobs(3)
    return made


def write(root: Path, *, stop: threading.Event | None = None, **options: Any) -> CatalogResult:
    options = {"formats": FORMATS, **options}
    return create_catalog(stop or threading.Event(), root, installed_layouts(Settings()), **options)


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def content(root: Path) -> dict[str, Any]:
    """Return all that a catalogue says, without times and builds."""
    catalog = root / "catalog"
    found: dict[str, Any] = {
        path.relative_to(catalog).as_posix(): json.loads(path.read_bytes())
        for path in catalog.rglob("*.json")
        if path.parent != catalog
    }
    found["gpkg"] = sorted(query(catalog / "outputs.gpkg", OUTPUTS))
    index = "SELECT o.id, r.minx FROM outputs o JOIN rtree_outputs_geom r ON r.id = o.fid"
    found["index"] = sorted(query(catalog / "outputs.gpkg", index))
    found["jobs"] = sorted(
        query(catalog / "outputs.gpkg", "SELECT job, outputs, completed, failed FROM jobs")
    )
    for path in sorted(catalog.glob("mosaic-*")):
        found[path.name] = sorted(query(path, "SELECT location, geom FROM tiles"))
    found["geojson"] = (catalog / "outputs.geojsonl").read_text("utf-8")
    return found


def change(root: Path, statement: str) -> None:
    with closing(sqlite3.connect(root / ".bulkdl/ledger.sqlite3")) as connection, connection:
        connection.execute(statement)


def test_catalog_of_jobs_has_an_entry_for_each_feature(tree: CatalogTree) -> None:
    result = write(tree.root)
    assert result.entries == 3 * ENTRIES_PER_JOB
    assert result.states == {"completed": 3 * ENTRIES_PER_JOB}
    assert (tree.root / "index.html").is_file()
    rows = query(tree.root / "catalog/outputs.gpkg", "SELECT path, thumbnail FROM outputs")
    assert all((tree.root / "catalog" / path).is_file() for path, _ in rows)
    assert sum(1 for _, thumbnail in rows if thumbnail) == 3 * 2 * 2


def test_second_catalog_links_the_items_of_unchanged_jobs(tree: CatalogTree) -> None:
    write(tree.root)
    items = sorted((tree.root / "catalog").glob("*/*/*.json"))
    before = {path: path.stat().st_ino for path in items}
    result = write(tree.root)
    assert result.unchanged == 3
    assert {path: path.stat().st_ino for path in items} == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE outputs SET state = 'failed', reason = 'stalled', recorded_at = 'x' WHERE id = 3",
        "DELETE FROM containers WHERE id = 2",
        "DELETE FROM containers",
        "UPDATE containers SET name = 'another'",
        "DELETE FROM outputs WHERE kind = 'quicklook'",
    ],
)
def test_second_catalog_after_a_change_equals_a_new_one(tree: CatalogTree, statement: str) -> None:
    write(tree.root)
    change(tree.root, f"PRAGMA foreign_keys = ON; {statement}".partition("; ")[2])
    change(tree.root, "DELETE FROM outputs WHERE container NOT IN (SELECT id FROM containers)")
    write(tree.root)
    kept = content(tree.root)
    (tree.root / ".bulkdl/catalog/entries.jsonl").unlink()
    write(tree.root)
    assert kept == content(tree.root)


def test_catalog_is_unchanged_after_catalogues_that_were_written_at_the_same_time(tree: CatalogTree) -> None:
    write(tree.root)
    before = content(tree.root)
    for _ in range(3):
        with ThreadPoolExecutor(4) as threads:
            results = [each.result() for each in [threads.submit(write, tree.root) for _ in range(4)]]
        assert [result.unchanged for result in results] == [3] * 4
        assert write(tree.root).unchanged == 3
        assert content(tree.root) == before


def test_catalog_that_waits_for_another_process_can_be_stopped(tree: CatalogTree) -> None:
    write(tree.root)
    before = content(tree.root)
    other = os.open(tree.root / ".bulkdl/catalog", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(other, fcntl.LOCK_EX)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(write, tree.root, stop=stop)
        stop.set()
        with pytest.raises(ReadStopped):
            waiting.result()
    assert content(tree.root) == before
    os.close(other)
    assert write(tree.root).unchanged == 3


def test_catalog_is_unchanged_with_other_formats_or_after_an_interruption(tree: CatalogTree) -> None:
    write(tree.root, formats=("gpkg",))
    stop = threading.Event()
    stop.set()
    with pytest.raises(ReadStopped):
        write(tree.root, stop=stop)
    for formats in (("page",), FORMATS, ("stac", "page")):
        assert write(tree.root, formats=formats).unchanged == 3


def test_catalog_of_another_version_is_written_completely(tree: CatalogTree) -> None:
    """The fingerprints depend on what this version reads of the files."""
    write(tree.root)
    cache = tree.root / ".bulkdl/catalog/entries.jsonl"
    head, *lines = cache.read_text().splitlines(keepends=True)
    cache.write_text("".join([head.replace("cache 2", "cache 1"), *lines]))
    assert head.replace("cache 2", "cache 1") != head
    assert [write(tree.root).unchanged, write(tree.root).unchanged] == [0, 3]


def test_catalog_of_documents_with_other_times_is_written_completely(tree: CatalogTree) -> None:
    """For example after a copy without times: the ledger has no checksums of documents."""
    write(tree.root)
    for path in tree.root.glob("*/*/job.json"):
        os.utime(path, (1, 1))
    assert [write(tree.root).unchanged, write(tree.root).unchanged] == [0, 3]


def test_second_catalog_with_new_jobs_equals_a_new_one(tree: CatalogTree) -> None:
    write(tree.root)
    tree.add_jobs(2)
    assert write(tree.root).unchanged == 3
    kept = content(tree.root)
    (tree.root / ".bulkdl/catalog/entries.jsonl").unlink()
    assert write(tree.root).unchanged == 0
    assert kept == content(tree.root)


def test_second_catalog_after_a_missing_file_has_no_link_to_it(tree: CatalogTree) -> None:
    write(tree.root)
    picture = next(tree.root.rglob("*.jpg"))
    picture.unlink()
    write(tree.root)
    assert f'/{picture.name}"' not in (tree.root / "catalog/outputs.geojsonl").read_text("utf-8")


def test_catalog_with_other_formats_has_only_these(tree: CatalogTree) -> None:
    write(tree.root)
    write(tree.root, formats=("gpkg",))
    names = {path.name for path in (tree.root / "catalog").iterdir()}
    assert names == {"outputs.gpkg", "bulkdl.json"}
    assert not (tree.root / "index.html").exists()
    assert write(tree.root).entries == 3 * ENTRIES_PER_JOB
    assert (tree.root / "index.html").exists()


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b'["bulkdl-catalog-cache 1","x",[],""]\nnonsense\n'])
def test_catalog_with_a_damaged_cache_is_written_completely(tree: CatalogTree, damage: bytes) -> None:
    write(tree.root)
    expected = content(tree.root)
    (tree.root / ".bulkdl/catalog/entries.jsonl").write_bytes(damage)
    write(tree.root)
    assert content(tree.root) == expected


def test_catalog_with_a_removed_item_writes_it_again(tree: CatalogTree) -> None:
    write(tree.root)
    expected = content(tree.root)
    next((tree.root / "catalog").glob("*/*/*.json")).unlink()
    write(tree.root)
    assert content(tree.root) == expected


def test_catalog_checksums_are_computed_once(tree: CatalogTree) -> None:
    write(tree.root, checksums=True)
    sums = (tree.root / "catalog/SHA256SUMS").read_text("utf-8")
    assert f"{'00' * 32}  " in sums  # the checksum of the unpacker is not computed again
    archive = next(tree.root.rglob("task_output.tar.gz"))
    size = archive.stat().st_size
    archive.unlink()
    archive.write_bytes(b"x" * size)  # not recorded: the size is the same
    assert write(tree.root, checksums=True).unchanged == 3
    assert (tree.root / "catalog/SHA256SUMS").read_text("utf-8") == sums


def test_catalog_in_a_foreign_folder_is_refused(tree: CatalogTree) -> None:
    (tree.root / "catalog").mkdir()
    (tree.root / "catalog/mine.txt").write_text("mine")
    with pytest.raises(DestinationError, match="not a catalogue of bulkdl"):
        write(tree.root)
    assert (tree.root / "catalog/mine.txt").read_text() == "mine"


def test_catalog_does_not_replace_a_foreign_page(tree: CatalogTree) -> None:
    (tree.root / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(DestinationError, match="not a page of bulkdl"):
        write(tree.root)
    write(tree.root, formats=("gpkg",))
    assert (tree.root / "index.html").read_text() == "<h1>mine</h1>"


def test_catalog_stopped_leaves_the_old_one(tree: CatalogTree) -> None:
    write(tree.root)
    expected = content(tree.root)
    tree.add_jobs(1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(ReadStopped):
        write(tree.root, stop=stop)
    assert content(tree.root) == expected
    assert [path.name for path in (tree.root / ".bulkdl/catalog").iterdir()] == ["entries.jsonl"]


def test_catalog_of_shards_is_one_catalogue(tmp_path: Path) -> None:
    for name in ("0", "1"):
        CatalogTree(tmp_path / "out" / name, tmp_path / f"contents-{name}").add_jobs(1)
    result = write(tmp_path / "out")
    rows = query(tmp_path / "out/catalog/outputs.gpkg", "SELECT path FROM outputs")
    assert {path.split("/")[1] for (path,) in rows} <= {"0", "1"}
    assert all((tmp_path / "out/catalog" / path).is_file() for (path,) in rows)
    assert result.containers == 2


def test_catalog_without_a_ledger_or_without_local_files_fails(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissingError):
        write(tmp_path)
    with pytest.raises(ConfigError, match="local"):
        create_catalog(threading.Event(), "s3://bucket", (), formats=("stac",))
