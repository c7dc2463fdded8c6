"""
Choose the file systems of the temporary folders.

The tests write many small files and sync each of them. In memory, a sync takes no time.
"""

import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest and tempfile create folders with unique names in it
MIN_FREE_BYTES = 4 << 30
_ROOT = "PYTEST_DEBUG_TEMPROOT"


def use_memory(env: MutableMapping[str, str]) -> None:
    """
    Let pytest create its folders in memory if there is enough of it.

    A value of PYTEST_DEBUG_TEMPROOT that the user has set is kept.
    """
    if _ROOT in env or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    if shutil.disk_usage(MEMORY).free >= MIN_FREE_BYTES:
        env[_ROOT] = str(MEMORY)


def find_other_file_system(folder: Path) -> Path | None:
    """Return a folder for temporary files on another file system than *folder*."""
    candidates = [MEMORY, Path(tempfile.gettempdir()), Path.cwd()]
    device = folder.stat().st_dev
    for candidate in candidates:
        if os.access(candidate, os.W_OK | os.X_OK) and candidate.stat().st_dev != device:
            return candidate
    return None
