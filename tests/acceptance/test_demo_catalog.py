"""``bulkdl demo --unpack keep --catalog --failures``, as ``make demo`` runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.catalog_pages import read_page
from support.run_processes import PROCESS_PATH

CROSSES_ANTIMERIDIAN = 4


def test_demo_ends_with_a_page_that_shows_all_states(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bulkdl", "demo", "-o", "demo", "--unpack", "keep"]
    command += ["--catalog", "--failures", "--jobs", "36"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": PROCESS_PATH}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Open demo/index.html in a browser."

    meta, columns = read_page(tmp_path / "demo/index.html")
    states = {meta["states"][state] for state in columns["state"]}
    assert states == {"completed", "failed", "skipped"}
    assert any(flags & CROSSES_ANTIMERIDIAN for flags in columns["flags"])

    # A quicklook lies on the footprint of its feature, and the raster of the feature has the same bounds.
    items = [json.loads(path.read_text()) for path in (tmp_path / "demo/catalog").glob("*/*/*.json")]
    pictured = [item for item in items if {"data", "thumbnail"} <= item.get("assets", {}).keys()]
    pictured = [item for item in pictured if item["geometry"]]
    assert len(pictured) > 10
    for item in pictured:
        columns_count, rows_count = item["assets"]["data"]["proj:shape"][::-1]
        step_x, _, west, _, step_y, north = item["assets"]["data"]["proj:transform"][:6]
        east, south = west + step_x * columns_count, north + step_y * rows_count
        assert item["bbox"] == pytest.approx([west, south, east - 360 if east > 180 else east, north])
