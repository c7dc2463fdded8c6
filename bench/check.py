"""Whether a run left what it should have left: counted and compared byte by byte before its time counts."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.pairs import Tally, Unverified


def files_below(folder: Path) -> Iterator[Path]:
    """Every regular file that is a result: not bulkdl's own state."""
    for parent, folders, names in os.walk(folder):
        if ".bulkdl" in folders:
            folders.remove(".bulkdl")
        yield from (Path(parent, name) for name in names)


def same_bytes(folder: Path, expected: Mapping[str, Path]) -> Tally:
    """*expected*: the original of each file, by where it must be below *folder*."""
    size_bytes = 0
    for name, original in expected.items():
        found = folder / name
        if not found.is_file() or not filecmp.cmp(found, original, shallow=False):
            raise Unverified(f"{name} is missing or differs")
        size_bytes += original.stat().st_size
    return Tally(len(expected), size_bytes)


def many(folder: Path, suffixes: tuple[str, ...], files: int) -> Tally:
    """At least *files* results with one of these suffixes, none of them empty."""
    sizes = [path.stat().st_size for path in files_below(folder) if path.name.endswith(suffixes)]
    if len(sizes) != files or not all(sizes):
        raise Unverified(f"{len(sizes)} of {files} files, {sizes.count(0)} of them empty")
    return Tally(len(sizes), sum(sizes))
