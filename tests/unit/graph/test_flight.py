from __future__ import annotations

import pytest

from bulkdl.graph.flight import ActiveTransfer, can_finish_within
from bulkdl.models import Kind, Output

ARCHIVE = Output("p", "j", "t", Kind.ARCHIVE)
QUICKLOOK = Output("p", "j", "t", Kind.QUICKLOOK, "a.jpg")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("flight", "ends"),
    [
        (
            ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=50 * MIB, offset=50 * MIB, total_bytes=100 * MIB),
            True,
        ),
        (
            ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=10 * MIB, offset=10 * MIB, total_bytes=100 * MIB),
            False,
        ),
        # Bytes of an earlier run say nothing of the speed of this one.
        (
            ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=1 * MIB, offset=50 * MIB, total_bytes=100 * MIB),
            False,
        ),
        (ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=MIB, offset=99 * MIB, total_bytes=100 * MIB), True),
        (ActiveTransfer(ARCHIVE, 9.5), True),
        (ActiveTransfer(ARCHIVE, 0.0, total_bytes=100 * MIB), False),
        (ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=MIB, offset=MIB, total_bytes=None), True),
        (
            ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=MIB, offset=MIB, total_bytes=MIB + 1, waiting=True),
            False,
        ),
        (ActiveTransfer(QUICKLOOK, 0.0), True),
        (ActiveTransfer(QUICKLOOK, 0.0, waiting=True), False),
    ],
)
def test_what_may_still_end_within_the_grace(flight, ends):
    assert can_finish_within(flight, now_s=10.0, grace_s=20.0) is ends
