"""QGIS opens a catalogue: the style of the footprints, map tips, mosaics and placed quicklooks."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

ROOT = Path(__file__).resolve().parents[2]
BULKDL = ROOT / ".venv/bin/bulkdl"
PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
COLOURS = {
    "completed": "#2c7bb6",
    "failed": "#d73027",
    "skipped": "#fdae61",
    "cancelled": "#969696",
    "planned": "#c8c8c8",
}


def run(*command: object) -> str:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))
    }
    environment["QT_QPA_PLATFORM"] = "offscreen"
    completed = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, env=environment
    )
    assert completed.returncode == 0, completed.stderr[-3000:]
    return completed.stdout


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qgis") / "outputs"
    run(BULKDL, "demo", "-o", folder, "--failures", "--unpack", "keep", "--progress", "never")
    formats = "gpkg,mosaic"
    run(BULKDL, "catalog", "-o", folder, "--only", formats, "--georeference", "quicklooks")
    return folder / "catalog"


@pytest.fixture(scope="session")
def facts(catalog: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(PYTHON, Path(__file__).with_name("read_catalog.py"), catalog))
    return found


def test_qgis_opens_the_layers(facts: dict[str, Any]) -> None:
    outputs = facts["outputs"]
    assert (outputs["valid"], outputs["crs"]) == (True, "EPSG:4326")
    assert outputs["features"] > 40
    assert facts["others"] == {"jobs": True, "failures": True}


def test_qgis_applies_a_colour_for_each_state(facts: dict[str, Any]) -> None:
    outputs = facts["outputs"]
    assert (outputs["renderer"], outputs["attribute"]) == ("categorizedSymbol", "state")
    assert outputs["colours"] == COLOURS
    assert {"completed", "failed"} <= set(outputs["states"]) <= set(COLOURS)


def test_qgis_shows_the_quicklook_in_the_map_tip(facts: dict[str, Any]) -> None:
    assert "[% title %]" in facts["outputs"]["map_tip"]
    tip = facts["tip"]
    assert "[%" not in tip
    assert "completed" in tip
    (source,) = re.findall(r'<img width="256" src="([^"]*)">', tip)
    assert Path(unquote(urlparse(source).path)).is_file()


def test_qgis_places_the_quicklooks(facts: dict[str, Any]) -> None:
    assert len(facts["pictures"]) > 5
    assert set(facts["pictures"].values()) == {"EPSG:4326"}


def test_qgis_opens_the_mosaics(facts: dict[str, Any], catalog: Path) -> None:
    if tuple(map(int, re.findall(r"\d+", facts["gdal"])[:2])) < (3, 9):
        pytest.skip(f"QGIS {facts['qgis']} has GDAL {facts['gdal']}; mosaics need 3.9")
    assert set(facts["mosaics"]) == {path.name for path in catalog.glob("mosaic-*.gti.gpkg")}
    for mosaic in facts["mosaics"].values():
        assert (mosaic["valid"], mosaic["crs"]) == (True, "EPSG:4326")
