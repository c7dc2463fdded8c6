"""The example of a processor passes the conformance suite."""

import sys
from pathlib import Path

from bulkdl.testing.processors import ProcessorSuite, Sample

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "checksum_processor"
sys.path.insert(0, str(EXAMPLE))

from bulkdl_checksums import Checksums  # noqa: E402 - the path is needed first


class TestChecksums(ProcessorSuite):
    def new_processor(self):
        return Checksums({})

    def samples(self):
        return [
            Sample("archive", ".tar.gz", b"\x1f\x8b" + b"x" * 3_000_000),
            Sample("geojson", ".json", b"{}"),
        ]


def test_example_has_at_most_eighty_lines():
    assert len((EXAMPLE / "bulkdl_checksums.py").read_text().splitlines()) <= 80
