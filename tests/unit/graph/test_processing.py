"""The processing stage: pending outputs, isolation, back-pressure, drain and abort."""

import asyncio
import threading

import pytest

from bulkdl.errors import DestinationError, LedgerError, ProcessingError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph import processing
from bulkdl.models import Outcome, Reason
from bulkdl.processors.interfaces import DerivedFile, ProcessingSkipped
from bulkdl.report.models import DerivedCount
from bulkdl.telemetry.events import OutputProcessed
from support.idle import wait_until_idle
from support.processing import CopyProcessor, processed_directory


@pytest.fixture
async def directory(tmp_path):
    async with processed_directory(tmp_path / "out") as opened:
        yield opened


async def fill(directory, count):
    return [await directory.complete(number) for number in range(count)]


async def test_stage_processes_the_pending_outputs_of_the_ledger(directory):
    await fill(directory, 3)
    summary = await directory.process_all(CopyProcessor())
    assert directory.derived_files() == {
        f"p/j{number}/t/out.bin.copy": f"content-{number}".encode()[::-1] for number in range(3)
    }
    assert await directory.counts() == [("copy", "completed", 3, 3, 27)]
    assert summary.derived == {"copy": DerivedCount(completed=3, files=3, size_bytes=27)}
    assert summary.exit_code is ExitCode.OK
    assert directory.scratch() == []
    processed = [event for event in directory.reporter.events if isinstance(event, OutputProcessed)]
    assert [(event.processor, event.state, event.files) for event in processed if event.output] == [
        ("copy", Outcome.COMPLETED, 1)
    ] * 3


async def test_stage_in_a_second_run_processes_nothing(directory):
    await fill(directory, 2)
    await directory.process_all(CopyProcessor())
    again = CopyProcessor()
    await directory.process_all(again)
    assert again.calls == []


async def test_stage_with_a_new_version_processes_every_output_again(directory):
    await fill(directory, 2)
    await directory.process_all(CopyProcessor())
    again = CopyProcessor(version=2)
    await directory.process_all(again)
    assert sorted(again.calls) == ["j0", "j1"]
    assert {version for _, version, *_ in await directory.derived_rows()} == {2}


async def test_stage_after_a_new_download_processes_the_new_content(directory):
    await fill(directory, 2)
    await directory.process_all(CopyProcessor())
    await directory.complete(0, b"other")
    again = CopyProcessor()
    await directory.process_all(again)
    assert again.calls == ["j0"]
    assert directory.derived_files()["p/j0/t/out.bin.copy"] == b"rehto"


async def test_stage_processes_only_selected_and_accepted_outputs(directory):
    await fill(directory, 4)
    processor = CopyProcessor()
    processor.accepts = lambda record: record.output.container.id != "j1"
    await directory.process_all(processor, selects=lambda output: output.container.id != "j2")
    assert sorted(processor.calls) == ["j0", "j3"]


@pytest.mark.parametrize(
    ("error", "reason", "detail", "exit_code"),
    [
        (ProcessingError(Reason.CORRUPT_CONTENT, "bad header"), "corrupt_content", "bad header", 6),
        (DestinationError(Reason.DISK_FULL, "no space"), "disk_full", "no space", 12),
        (ZeroDivisionError("secret"), "processor_failed", "ZeroDivisionError", 3),
        (OSError(28, "No space left on device"), "disk_full", "[Errno 28] No space left on device", 12),
        (asyncio.CancelledError(), "processor_failed", "CancelledError", 3),
        (LookupError(), "processor_failed", "LookupError", 3),
    ],
)
async def test_stage_with_a_failing_output_fails_that_output_only(
    directory, error, reason, detail, exit_code
):
    async def fail(_file, record, _area):
        if record.output.container.id == "j1":
            raise error

    await fill(directory, 3)
    summary = await directory.process_all(CopyProcessor(before=fail))
    assert sorted(directory.derived_files()) == ["p/j0/t/out.bin.copy", "p/j2/t/out.bin.copy"]
    assert ("failed", 1, "", f"{reason}: {detail}") in await directory.derived_rows()
    (problem,) = summary.problems
    assert (problem.reason, problem.detail) == (reason, detail)
    assert problem.subject == "processor copy, p/j1/t/archive"
    assert summary.exit_code == exit_code
    assert (summary.derived["copy"].completed, summary.derived["copy"].failed) == (2, 1)


async def test_stage_processes_a_failed_output_again_in_the_next_run_only(directory):
    async def fail(*_):
        raise ProcessingError(Reason.CORRUPT_CONTENT, "bad")

    await fill(directory, 2)
    failing = CopyProcessor(before=fail)
    await directory.process_all(failing)
    assert sorted(failing.calls) == ["j0", "j1"]
    directory.new_run()
    summary = await directory.process_all(CopyProcessor())
    assert len(directory.derived_files()) == 2
    assert summary.exit_code is ExitCode.OK


async def test_stage_records_a_skipped_output_and_does_not_process_it_again(directory):
    async def skip(*_):
        raise ProcessingSkipped("empty")

    await fill(directory, 1)
    summary = await directory.process_all(CopyProcessor(before=skip))
    assert await directory.derived_rows() == [("skipped", 1, "", "empty")]
    assert (summary.derived["copy"].skipped, summary.exit_code) == (1, ExitCode.OK)
    again = CopyProcessor(before=skip)
    await directory.process_all(again)
    assert again.calls == []


async def test_stage_without_the_file_of_an_output_fails_that_output(directory):
    await fill(directory, 2)
    directory.destination.locate("p/j0/t/out.bin").unlink()
    summary = await directory.process_all(CopyProcessor())
    assert list(directory.derived_files()) == ["p/j1/t/out.bin.copy"]
    assert summary.problems[0].reason is Reason.PATH_BLOCKED


@pytest.mark.parametrize(
    "key", ["../x", "/x", "a//b", ".bulkdl/x", ".BULKDL/x", "a\0b", "a\nb", "", "a" * 300]
)
async def test_stage_with_an_invalid_key_from_a_processor_fails_the_output(directory, key):
    class Hostile(CopyProcessor):
        async def process(self, file, record, area):
            return [DerivedFile(key, 1)]

    class Writing(CopyProcessor):
        async def process(self, file, record, area):
            return [await area.write(key, b"x")]

    await fill(directory, 1)
    summary = await directory.process_all(Hostile("hostile"), Writing("writing"))
    assert [problem.reason for problem in summary.problems] == [Reason.PROCESSOR_FAILED] * 2
    assert directory.derived_files() == {}


async def test_stage_with_a_processor_that_cannot_be_opened_runs_the_others(directory):
    class Closed(CopyProcessor):
        async def open(self):
            raise ProcessingError(Reason.PATH_BLOCKED, "not today")

        async def close(self):
            raise AssertionError

    await fill(directory, 1)
    closed, other = Closed("closed"), CopyProcessor()
    summary = await directory.process_all(closed, other)
    assert (closed.calls, other.calls) == ([], ["j0"])
    assert [(problem.subject, problem.detail) for problem in summary.problems] == [
        ("processor closed", "not today")
    ]


async def test_stage_runs_finish_after_all_outputs_and_records_its_files(directory):
    seen = []

    class Catalogue(CopyProcessor):
        async def finish(self, run, area):
            seen.extend([(each.output.container.id, each.state) async for each in run.outputs()])
            seen.extend([(each.container.id, file.key) async for each, file in run.derived_files("copy")])
            return [await area.write("index.html", b"page")]

    await fill(directory, 2)
    for _ in range(2):
        seen.clear()
        await directory.process_all(Catalogue())
    assert seen == [
        ("j0", "completed"),
        ("j1", "completed"),
        ("j0", "p/j0/t/out.bin.copy"),
        ("j1", "p/j1/t/out.bin.copy"),
    ]
    assert (directory.root / "index.html").read_bytes() == b"page"
    assert (await directory.derived_rows())[:2] == [
        ("completed", 1, "", ""),
        ("completed", 1, "index.html", ""),
    ]


async def test_stage_with_a_failing_finish_records_a_problem(directory):
    class Catalogue(CopyProcessor):
        async def finish(self, run, area):
            raise ValueError

    await fill(directory, 1)
    summary = await directory.process_all(Catalogue())
    assert [(problem.subject, problem.detail) for problem in summary.problems] == [
        ("processor copy", "ValueError")
    ]
    assert summary.derived["copy"].completed == 1


async def test_stage_during_downloads_processes_each_result_once(directory):
    processor = CopyProcessor()
    stage = directory.stage(processor)
    directory.recorder.subscribe(stage.enqueue)
    running = asyncio.create_task(stage.execute())
    await fill(directory, 20)
    await asyncio.to_thread(lambda: None)
    assert not running.done()
    stage.end_input()
    await running
    assert sorted(processor.calls) == sorted(f"j{number}" for number in range(20))


async def test_enqueue_with_a_full_queue_does_not_wait_and_loses_no_output(directory, monkeypatch):
    monkeypatch.setattr(processing, "_QUEUE_LENGTH", 2)
    release = asyncio.Event()

    async def wait(*_):
        await release.wait()

    processor = CopyProcessor(before=wait)
    stage = directory.stage(processor)
    directory.recorder.subscribe(stage.enqueue)
    running = asyncio.create_task(stage.execute())
    await fill(directory, 12)  # every result is recorded, although both workers wait
    assert len(processor.calls) <= 2
    release.set()
    stage.end_input()
    await running
    assert sorted(processor.calls) == sorted(f"j{number}" for number in range(12))
    assert len(directory.derived_files()) == 12


async def test_stage_with_a_full_queue_reads_the_ledger_again_before_the_last_download(
    directory, monkeypatch
):
    monkeypatch.setattr(processing, "_QUEUE_LENGTH", 1)
    processor = CopyProcessor()
    stage = directory.stage(processor, workers=1)
    directory.recorder.subscribe(stage.enqueue)
    running = asyncio.create_task(stage.execute())
    await fill(directory, 12)
    while len(directory.derived_files()) < 12:  # the input has not ended
        await asyncio.to_thread(lambda: None)
    stage.end_input()
    await running
    assert len(processor.calls) == 12


async def test_stage_after_the_first_request_finishes_the_running_outputs(directory):
    started, release = asyncio.Event(), asyncio.Event()

    async def wait(*_):
        started.set()
        await release.wait()

    await fill(directory, 6)
    processor = CopyProcessor(before=wait)
    processor.finish = None  # is not called
    stage = directory.stage(processor, workers=1)
    running = asyncio.create_task(stage.execute())
    await started.wait()
    directory.shutdown.request(ExitCode.INTERRUPTED)
    await wait_until_idle()
    release.set()
    await running
    assert processor.calls == ["j0"]
    assert list(directory.derived_files()) == ["p/j0/t/out.bin.copy"]
    assert directory.shutdown.cause is ExitCode.INTERRUPTED
    directory.new_run()
    again = CopyProcessor()
    await directory.process_all(again)
    assert sorted(again.calls) == ["j1", "j2", "j3", "j4", "j5"]


async def test_stage_after_the_shutdown_timeout_cancels_the_running_outputs(directory):
    started = asyncio.Event()

    async def wait(*_):
        started.set()
        await asyncio.Event().wait()

    await fill(directory, 1)
    stage = directory.stage(CopyProcessor(before=wait), shutdown_timeout_s=0.0)
    running = asyncio.create_task(stage.execute())
    await started.wait()
    directory.shutdown.request(ExitCode.INTERRUPTED)
    await running
    assert await directory.derived_rows() == []


async def test_stage_after_the_second_request_stops_the_threads_of_a_processor(directory):
    started, stopped = threading.Event(), threading.Event()

    def work(stop):
        started.set()
        assert stop.wait(60)
        stopped.set()

    async def block(_file, _record, area):
        (area.new_path()).write_bytes(b"half")
        await area.run(work)

    await fill(directory, 1)
    stage = directory.stage(CopyProcessor(before=block))
    running = asyncio.create_task(stage.execute())
    await asyncio.to_thread(started.wait, 60)
    directory.shutdown.request(ExitCode.INTERRUPTED)
    directory.shutdown.request(ExitCode.INTERRUPTED)
    await running
    assert stopped.is_set()
    assert (directory.scratch(), await directory.derived_rows()) == ([], [])


async def test_stage_after_the_maximum_duration_stops_and_reports_it(directory):
    async def wait(*_):
        await asyncio.Event().wait()

    await fill(directory, 1)
    await directory.process_all(CopyProcessor(before=wait), max_duration_s=1e-6, shutdown_timeout_s=0.0)
    assert directory.shutdown.cause is ExitCode.MAX_DURATION
    assert directory.derived_files() == {}


async def test_stage_after_a_used_up_budget_processes_every_output(directory):
    await fill(directory, 3)
    directory.shutdown.drain(ExitCode.MAX_TRANSFER)
    processor = CopyProcessor()
    await directory.process_all(processor)
    assert len(processor.calls) == 3
    assert directory.shutdown.cause is ExitCode.MAX_TRANSFER


async def test_stage_when_it_is_cancelled_ends_its_calls_and_closes_the_processors(directory):
    started, closed = asyncio.Event(), []

    async def wait(*_):
        started.set()
        await asyncio.Event().wait()

    class Closing(CopyProcessor):
        async def close(self):
            closed.append(self.name)

    await fill(directory, 1)
    running = asyncio.create_task(directory.stage(Closing(before=wait)).execute())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert closed == ["copy"]


async def test_stage_removes_the_scratch_of_a_killed_run(directory):
    left = directory.root / ".bulkdl" / "processing" / "abc"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    await directory.process_all(CopyProcessor())
    assert directory.scratch() == []


async def test_stage_with_an_unusable_ledger_raises(directory):
    async def fail(*_):
        raise LedgerError("gone")

    await fill(directory, 1)
    with pytest.raises(BaseExceptionGroup) as raised:
        await directory.process_all(CopyProcessor(before=fail))
    assert raised.group_contains(LedgerError)
