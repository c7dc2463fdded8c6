"""Install processors as separate distributions into a folder for PYTHONPATH."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "checksum_processor"

# Waits until the folder GATE contains the file "open", and creates the file "reached" before it waits. With
# the variable FAIL it fails for GeoJSON.
GATED = """
import os
import pathlib

from bulkdl import BaseProcessor, ProcessingError, Reason


class Gated(BaseProcessor):
    name, version = "gated", 1

    def __init__(self, settings):
        self.gate = pathlib.Path(os.environ["GATE"])

    def accepts(self, record):
        return record.output.kind != "quicklook"

    async def process(self, file, record, area):
        await area.run(self._wait)
        if os.environ.get("FAIL") and record.output.kind == "geojson":
            raise ProcessingError(Reason.CORRUPT_CONTENT, "not to my taste")
        return [await area.write(record.file.key + ".gated", file.path.read_bytes()[:10])]

    def _wait(self, stop):
        if not (self.gate / "open").exists():
            (self.gate / "reached").touch()
            while not stop.wait(0.01) and not (self.gate / "open").exists():
                pass
"""


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of *project* with the build backend, which needs no network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_example(folder: Path) -> Path:
    """Install the example of a processor; return the folder for PYTHONPATH."""
    with zipfile.ZipFile(build_wheel(EXAMPLE, folder / "wheel")) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def install_gated(folder: Path) -> Path:
    """Install the processor that waits at a gate; return the folder for PYTHONPATH."""
    site = folder / "site"
    info = site / "gated-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gated\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bulkdl.processors]\ngated = gated_processor:Gated\n")
    (site / "gated_processor.py").write_text(GATED)
    return site
