"""Blocks of tar archives, and the libraries that decompress them."""

from __future__ import annotations

import pytest

from bulkdl.archives.gzip_reader import INFLATE_LIBRARIES, InflateLibrary


@pytest.fixture(params=["zlib", "isal"])
def library(request: pytest.FixtureRequest) -> InflateLibrary:
    return INFLATE_LIBRARIES[request.param]
