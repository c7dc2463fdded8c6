"""Verify the files of a run before its time is used."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.pairs import FileTotals, VerificationError


def iter_files(folder: Path) -> Iterator[Path]:
    """Yield all files except the state directory of bulkdl."""
    for parent, folders, names in os.walk(folder):
        if ".bulkdl" in folders:
            folders.remove(".bulkdl")
        yield from (Path(parent, name) for name in names)


def check_same_bytes(folder: Path, expected: Mapping[str, Path]) -> FileTotals:
    """Compare the files below *folder* with *expected*, which maps relative paths to original files."""
    size_bytes = 0
    for name, original in expected.items():
        found = folder / name
        if not found.is_file() or not filecmp.cmp(found, original, shallow=False):
            raise VerificationError(f"{name} is missing or differs")
        size_bytes += original.stat().st_size
    return FileTotals(len(expected), size_bytes)


def check_file_count(folder: Path, suffixes: tuple[str, ...], files: int) -> FileTotals:
    """Verify that *files* non-empty results with one of these suffixes exist."""
    sizes = [path.stat().st_size for path in iter_files(folder) if path.name.endswith(suffixes)]
    if len(sizes) != files or not all(sizes):
        raise VerificationError(f"{len(sizes)} of {files} files, {sizes.count(0)} of them empty")
    return FileTotals(len(sizes), sum(sizes))
