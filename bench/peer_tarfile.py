"""Unpack one archive with the standard library: ``python bench/peer_tarfile.py ARCHIVE FOLDER``."""

from __future__ import annotations

import sys
import tarfile

with tarfile.open(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2], filter="data")
