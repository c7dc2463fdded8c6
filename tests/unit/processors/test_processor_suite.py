"""The conformance suite rejects faulty processors."""

import asyncio

import pytest

from bulkdl.processors.interfaces import BaseProcessor
from bulkdl.testing.processors import ProcessorSuite, Sample


class Correct(BaseProcessor):
    name, version = "correct", 1

    async def process(self, file, record, area):
        data = await area.run(lambda _stop: file.path.read_bytes())
        return [await area.write(f"{record.file.key}.copy", data)]


class WritesInPlace(Correct):
    async def process(self, file, record, area):
        root = file.path.parents[record.file.key.count("/")]
        final_path = root / f"{record.file.key}.copy"
        final_path.write_bytes(b"first half, ")
        await area.run(lambda _stop: None)
        final_path.write_bytes(b"first half, second half")
        return [await area.write(f"{record.file.key}.copy", b"first half, second half")]


class EscapesTheDirectory(Correct):
    async def process(self, file, record, area):
        root = file.path.parents[record.file.key.count("/")]
        (root.parent / "escaped").write_bytes(b"x")
        return await super().process(file, record, area)


class UsesAnotherKeyEachTime(Correct):
    number = 0

    async def process(self, file, record, area):
        UsesAnotherKeyEachTime.number += 1
        return [await area.write(f"{record.file.key}.{self.number}", b"x")]


class UsesOneKeyForAllOutputs(Correct):
    async def process(self, file, record, area):
        return [await area.write("copy", b"x")]


class FailsUnexpectedly(Correct):
    async def process(self, file, record, area):
        (await area.run(lambda _stop: file.path.read_bytes())).decode()
        return await super().process(file, record, area)


class HidesAFile(Correct):
    async def process(self, file, record, area):
        await area.write(f"{record.file.key}.hidden", b"x")
        return await super().process(file, record, area)


class ChangesItsInput(Correct):
    async def process(self, file, record, area):
        file.path.write_bytes(b"changed")
        return await super().process(file, record, area)


class IgnoresCancellation(Correct):
    async def process(self, file, record, area):
        try:
            await area.run(lambda _stop: None)
        except asyncio.CancelledError:
            await area.write(f"{record.file.key}.copy", b"wrong")
        return await super().process(file, record, area)


class ChangesItsMind(Correct):
    answer = True

    def accepts(self, record):
        ChangesItsMind.answer = not self.answer
        return self.answer


class GrowsAtTheEnd(Correct):
    number = 0

    async def finish(self, run, area):
        GrowsAtTheEnd.number += 1
        return [await area.write("index", b"x" * self.number)]


class HasNoVersion(Correct):
    version = 0


class Suite(ProcessorSuite):
    processor = Correct

    def new_processor(self):
        return self.processor()

    def samples(self):
        return [Sample("geojson", ".json", b"{}")]


# The suite starts processes, which import the class by its name.
WritesInPlaceSuite = type(
    "WritesInPlaceSuite", (Suite,), {"processor": WritesInPlace, "__module__": __name__}
)


@pytest.mark.parametrize(
    ("processor", "test", "message"),
    [
        (HasNoVersion, "test_processor_has_a_valid_name_and_version", "version"),
        (ChangesItsMind, "test_accepts_returns_the_same_value_for_every_kind_and_name", "accepts returned"),
        (HidesAFile, "test_process_publishes_the_files_that_it_returns", "not returned"),
        (ChangesItsInput, "test_process_publishes_the_files_that_it_returns", "changed its input"),
        (UsesAnotherKeyEachTime, "test_process_again_gives_the_same_files", "the keys differ"),
        (
            UsesOneKeyForAllOutputs,
            "test_process_of_several_outputs_concurrently_gives_separate_files",
            "the same derived file",
        ),
        (WritesInPlace, "test_process_cancelled_at_any_await_leaves_no_partial_file", "partial"),
        (IgnoresCancellation, "test_process_cancelled_at_any_await_leaves_no_partial_file", "ignored"),
        (EscapesTheDirectory, "test_process_with_hostile_names_stays_below_the_directory", "escaped"),
        (GrowsAtTheEnd, "test_finish_again_gives_the_same_files", "content of the files differs"),
    ],
)
def test_suite_with_a_faulty_processor_fails(tmp_path, processor, test, message):
    suite = type("Faulty", (Suite,), {"processor": processor})()
    method = getattr(suite, test)
    with pytest.raises(AssertionError, match=message):
        method() if test == "test_processor_has_a_valid_name_and_version" else method(tmp_path)


def test_suite_with_a_processor_that_leaves_partial_files_when_killed_fails(tmp_path):
    with pytest.raises(AssertionError, match="partial"):
        WritesInPlaceSuite().test_process_killed_at_any_await_is_completed_by_the_next_call(tmp_path)


def test_suite_with_a_processor_that_crashes_on_damaged_content_fails(tmp_path):
    suite = type("Faulty", (Suite,), {"processor": FailsUnexpectedly})()
    with pytest.raises(UnicodeDecodeError):
        suite.test_process_of_damaged_content_fails_with_a_reason(tmp_path)


class TestCorrect(Suite):
    """A correct processor passes."""
