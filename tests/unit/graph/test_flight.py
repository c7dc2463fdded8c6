from __future__ import annotations

import pytest

from bulkdl.graph.flight import Flight, may_end
from bulkdl.model import Kind, Output

ARCHIVE = Output("p", "j", "t", Kind.ARCHIVE)
QUICKLOOK = Output("p", "j", "t", Kind.QUICKLOOK, "a.jpg")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("flight", "ends"),
    [
        (Flight(ARCHIVE, 0.0, moved_bytes=50 * MIB, at_bytes=50 * MIB, total_bytes=100 * MIB), True),
        (Flight(ARCHIVE, 0.0, moved_bytes=10 * MIB, at_bytes=10 * MIB, total_bytes=100 * MIB), False),
        # Bytes of an earlier run say nothing of the speed of this one.
        (Flight(ARCHIVE, 0.0, moved_bytes=1 * MIB, at_bytes=50 * MIB, total_bytes=100 * MIB), False),
        (Flight(ARCHIVE, 0.0, moved_bytes=MIB, at_bytes=99 * MIB, total_bytes=100 * MIB), True),
        (Flight(ARCHIVE, 9.5), True),
        (Flight(ARCHIVE, 0.0, total_bytes=100 * MIB), False),
        (Flight(ARCHIVE, 0.0, moved_bytes=MIB, at_bytes=MIB, total_bytes=None), True),
        (Flight(ARCHIVE, 0.0, moved_bytes=MIB, at_bytes=MIB, total_bytes=MIB + 1, waiting=True), False),
        (Flight(QUICKLOOK, 0.0), True),
        (Flight(QUICKLOOK, 0.0, waiting=True), False),
    ],
)
def test_what_may_still_end_within_the_grace(flight, ends):
    assert may_end(flight, now_s=10.0, grace_s=20.0) is ends
