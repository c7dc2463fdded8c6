"""
The conformance suite that every processor must pass.

An author of a processor writes one test class and runs it with pytest:

    class TestChecksums(ProcessorSuite):
        def new_processor(self):
            return Checksums({})

        def samples(self):
            return [Sample("geojson", ".json", b'{"type": "Point"}')]

The suite calls the processor with real files and a real ledger. It cancels and kills calls at every point
at which they wait, and compares the result of the next call with that of an undisturbed one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bulkdl.errors import DownloadError
from bulkdl.graph.output_area import StorageArea, check_key
from bulkdl.graph.processing_ledger import LedgerOfFinishedRun, completed_output, open_output
from bulkdl.graph.scratch import remove_scratch
from bulkdl.ledger import derived_queries
from bulkdl.ledger.derived_queries import DerivedRow, ProcessedRow
from bulkdl.models import Output, Result
from bulkdl.processors.interfaces import DerivedFile, ProcessingSkipped, Processor
from bulkdl.testing.directory import SampleDirectory, open_sample_directory
from bulkdl.testing.steps import Steps, cancel_at_each_step, check

T = TypeVar("T")

_KILLED = 86
# Each kill needs a new process, so later steps are not all killed.
_KILLED_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 22)
_KINDS = ("archive", "quicklook", "geojson")
_HOSTILE_STEMS = (
    "-rf *",
    "$(touch x); `touch y`",
    "ünï😀",
    ".hidden",
    "a" * 170,
    "x.tar.gz",
    "%2e%2e",
    "con",
)
_HOSTILE_NAMES = (
    "../../escape.jpg",
    "/etc/passwd",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "\\\\host\\share",
    "x" * 1000,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """An output that the processor accepts and can process."""

    kind: str
    suffix: str
    content: bytes


class ProcessorSuite:
    """Tests of one processor. A subclass defines ``new_processor`` and ``samples``."""

    def new_processor(self) -> Processor:
        """Return a new instance of the processor."""
        raise NotImplementedError

    def samples(self) -> Sequence[Sample]:
        """Return one or more outputs that the processor accepts and can process."""
        raise NotImplementedError

    def test_processor_has_a_valid_name_and_version(self) -> None:
        processor, other = self.new_processor(), self.new_processor()
        check(processor.name == other.name != "", "the name is empty or not constant")
        check(processor.name == processor.name.lower() and processor.name.isascii(), "the name is invalid")
        check(isinstance(processor.version, int) and processor.version >= 1, "the version is below 1")

    def test_accepts_returns_the_same_value_for_every_kind_and_name(self, tmp_path: Path) -> None:
        async def run(directory: SampleDirectory) -> None:
            processor = self.new_processor()
            for number, name in enumerate(_HOSTILE_NAMES):
                for kind in _KINDS:
                    result = await directory.complete(kind, f"{number}/{kind}.bin", b"x", name)
                    record = completed_output(await directory.find_pending(result.output))
                    values = [processor.accepts(record) for _ in range(2)]
                    check(values in ([True, True], [False, False]), f"accepts returned {values}")

        _run(tmp_path, run)

    def test_process_publishes_the_files_that_it_returns(self, tmp_path: Path) -> None:
        async def run(directory: SampleDirectory) -> None:
            for number, sample in enumerate(self.samples()):
                before = directory.read_derived()
                result = await directory.complete(sample.kind, f"{number}/out{sample.suffix}", sample.content)
                check(self._accepts(await directory.find_pending(result.output)), "a sample is not accepted")
                files = await self._process(directory, result.output)
                _check_files(directory, files, directory.read_derived().keys() - before.keys())
                content = directory.folders.locate(f"{number}/out{sample.suffix}").read_bytes()
                check(content == sample.content, "the processor changed its input")

        _run(tmp_path, run)

    def test_process_again_gives_the_same_files(self, tmp_path: Path) -> None:
        async def run(directory: SampleDirectory) -> None:
            for result in await self._complete(directory):
                first, content = await self._process(directory, result.output), directory.read_derived()
                for is_recorded in (False, True):
                    if is_recorded:
                        await self._record(directory, result.output, first)
                    again = await self._process(directory, result.output)
                    check([file.key for file in again] == [file.key for file in first], "the keys differ")
                    check(directory.read_derived() == content, "the content of the files differs")

        _run(tmp_path, run)

    def test_process_of_several_outputs_concurrently_gives_separate_files(self, tmp_path: Path) -> None:
        async def run(directory: SampleDirectory) -> None:
            results = [result for copy in range(4) for result in await self._complete(directory, f"{copy}-")]
            processor = self.new_processor()
            await processor.open()
            calls = [self._process(directory, result.output, processor) for result in results]
            files = [file for returned in await asyncio.gather(*calls) for file in returned]
            await processor.close()
            check(len({file.key for file in files}) == len(files), "two outputs have the same derived file")
            _check_files(directory, files, directory.read_derived().keys())

        _run(tmp_path, run)

    def test_process_cancelled_at_any_await_leaves_no_partial_file(self, tmp_path: Path) -> None:
        expected = self._expected(tmp_path / "expected")

        async def run(directory: SampleDirectory) -> None:
            for result in await self._complete(directory):
                call = partial(self._process, directory, result.output)
                await cancel_at_each_step(call, partial(_check_undisturbed, directory, expected))
                await self._process(directory, result.output)
            check(directory.read_derived() == expected, "the files differ after a cancelled call")

        _run(tmp_path / "cancelled", run)

    def test_process_killed_at_any_await_is_completed_by_the_next_call(self, tmp_path: Path) -> None:
        expected = self._expected(tmp_path / "expected")
        root = tmp_path / "killed"
        # Each child is a fork of a new process that has only imported this module, not of the test process.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        for step in _KILLED_STEPS:
            child = context.Process(target=_process_and_die, args=(type(self), root, step))
            child.start()
            child.join()
            check(child.exitcode in (0, _KILLED), f"the process ended with exit code {child.exitcode}")

            async def run(directory: SampleDirectory) -> None:
                _check_undisturbed(directory, expected, with_scratch=False)
                remove_scratch(directory.storage)
                for result in await self._complete(directory):
                    await self._process(directory, result.output)
                check(directory.read_derived() == expected, "the files differ after a killed call")

            _run(root, run)
            if child.exitcode == 0:
                break

    def test_process_with_hostile_names_stays_below_the_directory(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.mkdir()
        (victim / "file").write_bytes(b"unchanged")

        async def run(directory: SampleDirectory) -> None:
            for number, stem in enumerate(_HOSTILE_STEMS):
                for sample in self.samples():
                    name = _HOSTILE_NAMES[number % len(_HOSTILE_NAMES)]
                    key = f"{stem}/{number}/{stem}{sample.suffix}"
                    result = await directory.complete(sample.kind, key, sample.content, name)
                    with suppress(DownloadError, ProcessingSkipped):
                        for file in await self._process(directory, result.output):
                            check_key(file.key)

        _run(tmp_path / "out", run)
        check((victim / "file").read_bytes() == b"unchanged", "a file outside of the directory changed")
        check({path.name for path in tmp_path.iterdir()} == {"victim", "out"}, "a file escaped")

    def test_process_of_damaged_content_fails_with_a_reason(self, tmp_path: Path) -> None:
        async def run(directory: SampleDirectory) -> None:
            for number, sample in enumerate(self.samples()):
                for variant, content in enumerate(_damage(sample.content)):
                    key = f"{number}/{variant}/out{sample.suffix}"
                    result = await directory.complete(sample.kind, key, content)
                    with suppress(DownloadError, ProcessingSkipped):
                        await self._process(directory, result.output)
                    check(directory.list_scratch() == [], "scratch files are left after a failure")

        _run(tmp_path, run)

    def test_finish_again_gives_the_same_files(self, tmp_path: Path) -> None:
        async def run(directory: SampleDirectory) -> None:
            for result in await self._complete(directory):
                await self._record(directory, result.output, await self._process(directory, result.output))
            before = directory.read_derived()
            files = await self._finish(directory)
            content = directory.read_derived()
            _check_files(directory, files, content.keys() - before.keys())
            await cancel_at_each_step(partial(self._finish, directory), lambda: None)
            again = await self._finish(directory)
            check([file.key for file in again] == [file.key for file in files], "the keys differ")
            check(directory.read_derived() == content, "the content of the files differs")

        _run(tmp_path, run)

    def _accepts(self, pending: derived_queries.PendingOutput) -> bool:
        return self.new_processor().accepts(completed_output(pending))

    async def _complete(self, directory: SampleDirectory, prefix: str = "") -> list[Result]:
        return [
            await directory.complete(sample.kind, f"{prefix}{number}/out{sample.suffix}", sample.content)
            for number, sample in enumerate(self.samples())
        ]

    def _expected(self, root: Path) -> dict[str, bytes]:
        """Return the files that undisturbed calls derive from the samples."""

        async def run(directory: SampleDirectory) -> dict[str, bytes]:
            for result in await self._complete(directory):
                await self._process(directory, result.output)
            return directory.read_derived()

        return _run(root, run)

    async def _process(
        self, directory: SampleDirectory, output: Output, opened: Processor | None = None
    ) -> Sequence[DerivedFile]:
        processor = opened or self.new_processor()
        if opened is None:
            await processor.open()
        try:
            pending = await directory.find_pending(output)
            completed = completed_output(pending)
            async with (
                open_output(directory.storage, directory.executors, completed) as file,
                self._area(directory, processor, pending.row_id) as area,
            ):
                return await processor.process(file, completed, area)
        finally:
            if opened is None:
                await processor.close()

    async def _finish(self, directory: SampleDirectory) -> Sequence[DerivedFile]:
        processor = self.new_processor()
        await processor.open()
        try:
            run = LedgerOfFinishedRun("run", directory.ledger, directory.storage, directory.executors)
            async with self._area(directory, processor, None) as area:
                return await processor.finish(run, area)
        finally:
            await processor.close()

    def _area(self, directory: SampleDirectory, processor: Processor, row_id: int | None) -> StorageArea:
        return StorageArea(directory, processor.name, row_id)

    async def _record(self, directory: SampleDirectory, output: Output, files: Sequence[DerivedFile]) -> None:
        pending, processor = await directory.find_pending(output), self.new_processor()
        rows = tuple(DerivedRow(file.key, file.size_bytes, file.digest, file.detail) for file in files)
        digest = completed_output(pending).file.digest
        row = ProcessedRow(pending.row_id, processor.name, processor.version, "completed", digest, files=rows)
        await directory.ledger.write(partial(derived_queries.record_processed, processed=row))


def _run(root: Path, work: Callable[[SampleDirectory], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_sample_directory(root) as directory:
            return await work(directory)

    return asyncio.run(run())


def _check_files(directory: SampleDirectory, files: Sequence[DerivedFile], new_keys: Collection[str]) -> None:
    """Check that *files* are published, and that they contain all *new_keys*."""
    keys = {file.key for file in files}
    for file in files:
        path = directory.folders.locate(check_key(file.key))
        if path.is_dir():
            parts = {f"{file.key}/{part.relative_to(path).as_posix()}": part for part in path.rglob("*")}
            size_bytes = sum(
                part.stat().st_size for key, part in parts.items() if key not in keys and part.is_file()
            )
            new_keys = {key for key in new_keys if not key.startswith(f"{file.key}/")}
        else:
            size_bytes = path.stat().st_size
        check(size_bytes == file.size_bytes, f"{file.key}: {size_bytes} bytes instead of {file.size_bytes}")
    missing = sorted(set(new_keys) - keys)
    check(not missing, f"published, but not returned: {missing}")
    check(directory.list_scratch() == [], "scratch files are left")


def _check_undisturbed(
    directory: SampleDirectory, expected: dict[str, bytes], *, with_scratch: bool = True
) -> None:
    """Check that each derived file is complete, and that no scratch file is left."""
    for key, content in directory.read_derived().items():
        check(expected.get(key) == content, f"{key}: partial or unexpected file")
    if with_scratch:
        check(directory.list_scratch() == [], "scratch files are left after a cancellation")


def _damage(content: bytes) -> list[bytes]:
    """Return variants of *content*: empty, truncated, with changed bytes, and random bytes."""
    generator = random.Random(len(content))
    changed = bytearray(content)
    for _ in range(max(1, len(content) // 50)):
        if changed:
            changed[generator.randrange(len(changed))] ^= 0xFF
    half = content[: len(content) // 2]
    return [b"", content[:1], half, content[:-1], bytes(changed), content + half, generator.randbytes(2000)]


def _process_and_die(suite_class: type[ProcessorSuite], root: Path, step: int) -> None:
    """Process the samples, and end the process without any clean-up at *step*."""
    suite = suite_class()

    async def run(directory: SampleDirectory) -> None:
        for result in await suite._complete(directory):  # noqa: SLF001 - the suite itself
            steps = Steps(suite._process(directory, result.output), step, lambda: os._exit(_KILLED))  # noqa: SLF001
            await steps.run()

    _run(root, run)
