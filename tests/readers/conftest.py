"""A catalogue of the demo account, and one of an account of deliveries, for programs that read them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BULKDL = ROOT / ".venv/bin/bulkdl"


def run_bulkdl(*arguments: object) -> str:
    """Run the command line of the main environment and return its stdout."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("BULKDL_", "UP42_"))
    }
    command = [str(BULKDL), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of 40 jobs with all formats of the catalogue."""
    folder = tmp_path_factory.mktemp("readers") / "outputs"
    run_bulkdl("demo", "-o", folder, "--jobs", 40, "--unpack", "keep", "--progress", "never")
    formats = "stac,gpkg,mosaic,page,parquet,geojson"
    run_bulkdl("catalog", "-o", folder, "--only", formats, "--checksums", "--georeference", "quicklooks")
    return folder


@pytest.fixture(scope="session")
def catalog(outputs: Path) -> Path:
    """The folder of the catalogue."""
    return outputs / "catalog"
