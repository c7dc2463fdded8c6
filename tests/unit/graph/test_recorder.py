"""Recorder: a result that the ledger cannot store fails one output."""

from datetime import UTC, datetime

import pytest

from bulkdl.errors import DestinationError, LedgerError
from bulkdl.graph.recorder import Recorder
from bulkdl.models import CommittedFile, Digest, Outcome, Reason, Result, Validator
from bulkdl.report.summary import SummaryBuilder
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.telemetry.events import NullReporter

COMMITTED_FILE = CommittedFile("a.tgz", 5, Digest("crc32c", "yZRlqg=="), Validator(etag='"\udce9"'), None)
RESULT = Result(
    job_output("p", "j", "t", Kind.ARCHIVE),
    Outcome.COMPLETED,
    Reason.DOWNLOADED,
    COMMITTED_FILE,
    downloaded_bytes=5,
    attempts=2,
)


class FakeLedger:
    """Fails the first writes with *errors*."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.writes = 0

    async def write(self, _statement, *, keys=()):
        self.writes += 1
        if self.errors:
            raise self.errors.pop(0)


def recorder(ledger, *subscribers):
    summary = SummaryBuilder("r", datetime.now(UTC))
    return Recorder(ledger, "r", summary, NullReporter(), subscribers)


async def test_record_with_a_result_that_cannot_be_stored_records_a_failure(logs):
    ledger = FakeLedger(UnicodeEncodeError("utf-8", '"\udce9"', 1, 2, "surrogates not allowed"))
    recorded = await recorder(ledger).record(RESULT)
    assert (recorded.outcome, recorded.reason, recorded.file) == (Outcome.FAILED, Reason.INTERNAL, None)
    assert (recorded.downloaded_bytes, recorded.attempts, ledger.writes) == (5, 2, 2)
    assert [line["event"] for line in logs()] == ["transfer.not_recorded", "transfer.failed"]


@pytest.mark.parametrize("error", [LedgerError("x"), DestinationError(Reason.DISK_FULL, "x")])
async def test_record_with_an_unusable_ledger_raises(error):
    ledger = FakeLedger(error)
    with pytest.raises(type(error)):
        await recorder(ledger).record(RESULT)
    assert ledger.writes == 1


async def test_record_result_sends_the_recorded_result_to_every_subscriber_in_order():
    ledger, received = FakeLedger(), []

    async def first(result):
        received.append(("first", result, ledger.writes))

    async def second(result):
        received.append(("second", result, ledger.writes))

    await recorder(ledger, first, second).record_result(RESULT)
    assert received == [("first", RESULT, 1), ("second", RESULT, 1)]
