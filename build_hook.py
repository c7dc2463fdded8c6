"""Write the revision of the source into the package when a wheel or an sdist is built."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

REVISION_FILE = "bulkdl/cli/_revision.py"


class RevisionHook(BuildHookInterface[Any]):
    """
    Add ``bulkdl/cli/_revision.py`` to the archive.

    The revision is BULKDL_REVISION or the commit of the working copy. An unpacked sdist contains the file.
    """

    _path: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        revision = None if version == "editable" or (root / REVISION_FILE).exists() else find_revision(root)
        if revision is None:
            return
        path = Path(self.directory) / f".revision-{os.getpid()}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'REVISION = "{revision}"\n', "utf-8")
        self._path = path
        build_data["force_include"][str(path)] = REVISION_FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def find_revision(root: Path) -> str | None:
    """Return up to 12 hexadecimal digits of the revision of the source in *root*; None if it is unknown."""
    revision = os.environ.get("BULKDL_REVISION", "").strip()
    if not revision and (root / ".git").exists():
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
        revision = done.stdout.strip() if done.returncode == 0 else ""
    return revision[:12] if re.fullmatch(r"[0-9a-f]{7,40}", revision) else None
