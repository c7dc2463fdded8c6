"""
Kill the writing of a catalogue at each of its steps, and complete it in another process.

``python catalog_crash.py SCENARIO FOLDER``. A step is a call that changes the disk. The process is killed
before the step and, with the next number, after it. The scenario ``replace`` has an older catalogue.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.catalog_tree import ENTRIES_PER_JOB, CatalogTree
from bulkdl.maintenance.catalog import create_catalog
from bulkdl.processors.catalog.publishing import GENERATOR, read_marker
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts
from support.crash_steps import kill_at, run_in_child

_STEPS = ("mkdir", "open", "write", "rename", "replace", "fsync", "unlink", "rmdir", "link")
_FORMATS = ("stac", "gpkg", "mosaic", "geojson", "page")


def write(root: Path, step: int | None = None) -> None:
    layouts = installed_layouts(Settings())
    if step is not None:
        kill_at(step, _STEPS)
    create_catalog(threading.Event(), root, layouts, formats=_FORMATS)


def count_entries(root: Path) -> int:
    """Return the number of entries of the published catalogue, of which all formats agree; 0 without one."""
    catalog = root / "catalog"
    if not catalog.exists():
        return 0
    marker = read_marker(catalog)
    assert marker is not None
    entries = int(marker["entries"])
    with closing(sqlite3.connect(catalog / "outputs.gpkg")) as connection:
        assert connection.execute("SELECT count(*) FROM outputs").fetchone() == (entries,)
    for path in catalog.glob("mosaic-*"):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM tiles").fetchone() == (entries,)
    assert len((catalog / "outputs.geojsonl").read_text().splitlines()) == entries
    items = [path for path in catalog.glob("*/*/*.json") if path.name != "catalog.json"]
    assert len(items) == entries
    assert all(path.stat().st_size > 0 for path in items)
    return entries


def main(scenario: str, folder: str) -> None:
    template, root = Path(folder) / "template", Path(folder) / "out"
    tree = CatalogTree(template, Path(folder) / "contents")
    tree.add_jobs(1)
    if scenario == "replace":
        write(template)
        tree.add_jobs(1)
    old, new = count_entries(template), tree.jobs * ENTRIES_PER_JOB
    step, seen = 0, set()
    while True:
        shutil.copytree(template, root, symlinks=True)
        code = run_in_child(partial(write, root, step))
        found = count_entries(root)
        if code == 0:
            break
        assert code == -signal.SIGKILL, f"step {step}: exit code {code}"
        assert found in (old, new), f"step {step}: {found} entries"
        seen.add(found)
        assert run_in_child(partial(write, root)) == 0, f"step {step}: the next catalogue failed"
        assert count_entries(root) == new, f"step {step}"
        assert GENERATOR in (root / "index.html").read_bytes()[:4096], f"step {step}"
        left = [path.name for path in (root / ".bulkdl/catalog").iterdir()]
        assert left == ["entries.jsonl"], f"step {step}: {left}"
        shutil.rmtree(root)
        step += 1
    assert found == new
    assert seen == {old, new}
    sys.stdout.write(f"{step}\n")


main(*sys.argv[1:])
