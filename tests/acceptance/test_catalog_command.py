"""``bulkdl catalog`` and ``--catalog`` as processes: exit codes, results on stdout, signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bulkdl(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "bulkdl", *map(str, arguments)],
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=80,
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalog") / "out"
    made = bulkdl("demo", "-o", folder, "--jobs", 6, "--unpack", "keep", "--catalog")
    assert made.returncode == 0, made.stderr
    assert f"Open {folder}/index.html in a browser." in made.stdout
    return folder


def test_demo_with_catalog_writes_the_page_and_the_catalogue(output: Path) -> None:
    assert (output / "index.html").is_file()
    assert (output / "catalog/catalog.json").is_file()
    assert (output / "catalog/outputs.gpkg").is_file()


def test_catalog_needs_neither_credentials_nor_network(output: Path) -> None:
    result = bulkdl("catalog", "-o", output, "--format", "json", HTTPS_PROXY="http://127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["entries"] == sum(document["states"].values()) > 6
    assert document["unchanged"] == document["containers"] == 6


def test_catalog_with_an_unknown_format_is_a_usage_error(output: Path) -> None:
    result = bulkdl("catalog", "-o", output, "--only", "shapefile")
    assert result.returncode == 2
    assert "unknown format 'shapefile'; expected one of stac, gpkg" in result.stderr


def test_catalog_without_a_ledger_is_a_usage_error(tmp_path: Path) -> None:
    result = bulkdl("catalog", "-o", tmp_path)
    assert result.returncode == 2
    assert "no ledger" in result.stderr


def test_catalog_of_an_object_store_is_a_usage_error() -> None:
    result = bulkdl("catalog", "-o", "s3://bucket/prefix")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_run_with_catalog_and_an_object_store_is_rejected_before_the_run() -> None:
    result = bulkdl(
        "run",
        "--catalog",
        "-o",
        "s3://bucket/prefix",
        UP42_TOKEN="t",
        UP42_PROJECT_ID="5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d",
        UP42_PROJECT_API_KEY="k",
    )
    assert result.returncode == 2
    assert "--catalog: needs a local output directory" in result.stderr


def test_catalog_in_place_of_a_foreign_page_fails_without_a_change(output: Path) -> None:
    page = (output / "index.html").read_bytes()
    (output / "index.html").write_text("mine")
    try:
        result = bulkdl("catalog", "-o", output)
        assert result.returncode == 3
        assert "is not a page of bulkdl" in result.stderr
        assert (output / "index.html").read_text() == "mine"
    finally:
        (output / "index.html").write_bytes(page)


def test_verify_does_not_list_the_files_of_the_catalogue(output: Path) -> None:
    assert bulkdl("catalog", "-o", output, "--georeference", "quicklooks").returncode == 0
    assert list(output.rglob("*.aux.xml"))
    (output / "mine.txt").write_text("mine")
    try:
        result = bulkdl("verify", "-o", output)
    finally:
        (output / "mine.txt").unlink()
    assert result.returncode == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if "untracked" in line] == ["untracked: mine.txt"]
