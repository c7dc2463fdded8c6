"""The processor ``unpack`` passes the conformance suite for processors."""

from __future__ import annotations

import gzip

from bulkdl.processors.unpack.processor import UnpackProcessor
from bulkdl.testing.processors import ProcessorSuite, Sample
from support.archive_bytes import END, member, zipped

FILES = {"output/data.json": b"{}", "output/a/b.tif": b"abc" * 50_000}


class TestUnpack(ProcessorSuite):
    def new_processor(self) -> UnpackProcessor:
        return UnpackProcessor()

    def samples(self) -> list[Sample]:
        tar = b"".join(member(name, data) for name, data in FILES.items()) + END
        return [
            Sample("archive", ".tar.gz", gzip.compress(tar)),
            Sample("archive", ".tar", tar),
            Sample("archive", ".zip", zipped(FILES)),
        ]
