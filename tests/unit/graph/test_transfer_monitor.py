"""The prediction whether a transfer finishes within a timeout."""

import pytest

from bulkdl.graph.transfer_monitor import ActiveTransfer, can_finish_within
from bulkdl.sources.up42_jobs.models import Kind, job_output

ARCHIVE = job_output("p", "j", "t", Kind.ARCHIVE)
QUICKLOOK = job_output("p", "j", "t", Kind.QUICKLOOK, "a.jpg")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (
            ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=50 * MIB, offset=50 * MIB, total_bytes=100 * MIB),
            True,
        ),
        (
            ActiveTransfer(ARCHIVE, 0.0, downloaded_bytes=10 * MIB, offset=10 * MIB, total_bytes=100 * MIB),
            False,
        ),
        # The bytes of an earlier run do not count for the speed of this one.
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
def test_can_finish_within_predicts_from_the_average_speed(transfer, expected):
    assert can_finish_within(transfer, now_s=10.0, timeout_s=20.0) is expected
