"""A directory with a ledger and completed outputs, and the processing stage on it."""

import asyncio
import io
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from bulkdl.archives.inspection import inspect_archive
from bulkdl.concurrency import Executors
from bulkdl.graph.processing import ProcessingStage
from bulkdl.graph.processor_calls import ProcessingContext
from bulkdl.graph.recorder import Recorder
from bulkdl.graph.shutdown import ShutdownController
from bulkdl.ledger import derived_queries, queries
from bulkdl.ledger.database import Ledger
from bulkdl.listings import ContainerListing, PlannedOutput
from bulkdl.models import CommittedFile, Outcome, Reason, RemoteObject, Result, Validator
from bulkdl.processors.interfaces import BaseProcessor
from bulkdl.report.summary import SummaryBuilder
from bulkdl.settings import Settings
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.sources.registry import installed_layouts
from bulkdl.sources.up42_jobs.models import Kind, job_container, job_output
from bulkdl.state.storage import Storage, create_storage
from bulkdl.transfer.checksums import Digester
from support.memory_destination import MemoryDestination

AT = datetime(2024, 1, 31, tzinfo=UTC)


class CopyProcessor(BaseProcessor):
    """Writes the reversed content of an output next to it. ``before`` is awaited first."""

    def __init__(self, name="copy", version=1, before=None):
        self.name, self.version = name, version
        self.before = before
        self.calls = []

    async def process(self, file, record, area):
        self.calls.append(record.output.container.id)
        if self.before is not None:
            await self.before(file, record, area)
        data = await area.run(lambda _stop: file.path.read_bytes())
        return [await area.write(f"{record.file.key}.{self.name}", data[::-1])]


class EventRecorder:
    def __init__(self):
        self.events = []

    def report(self, event):
        self.events.append(event)


class ProcessedDirectory:
    """An output directory with an open ledger. The output of job N has the content ``content-N``."""

    def __init__(self, root, ledger, storage, executors):
        self.root, self.ledger, self.storage, self.executors = root, ledger, storage, executors
        self.destination = storage.destination
        self.documents = PathMatcher(installed_layouts(Settings()))
        self.reporter = EventRecorder()
        self.new_run()

    def new_run(self):
        self.summary = SummaryBuilder("run", AT)
        self.recorder = Recorder(self.ledger, "run", self.summary, self.reporter)
        self.shutdown = ShutdownController()

    def stage(self, *processors, **changes):
        context = ProcessingContext(
            **{
                "run_id": "run",
                "storage": self.storage,
                "ledger": self.ledger,
                "recorder": self.recorder,
                "shutdown": self.shutdown,
                "executors": self.executors,
                "documents": self.documents,
                "selects": lambda _output: True,
                "workers": 2,
                "shutdown_timeout_s": 30.0,
                **changes,
            }
        )
        return ProcessingStage(processors, context)

    async def process_all(self, *processors, **changes):
        """Run the stage on the content of the ledger, as a run without downloads does."""
        stage = self.stage(*processors, **changes)
        stage.end_input()
        async with asyncio.timeout(60):
            await stage.execute()
        return self.summary.build()

    async def complete(self, number, content=None, *, name="out.bin", task="t"):
        """Record the output of a job, or of its task, as completed; return its result."""
        job_id = f"j{number}"
        job = job_container("p", job_id, "SUCCEEDED", "DEFAULT", "a name", AT, AT, "w")
        output = job_output("p", job_id, task, Kind.ARCHIVE)
        data = content if content is not None else f"content-{number}".encode()
        digester = Digester()
        digester.update(data)
        file = CommittedFile(
            "/".join(filter(None, ["p", job_id, task, name])), len(data), digester.crc32c, Validator(), None
        )
        self._write(file, data)
        listing = ContainerListing(job, (PlannedOutput(output),), frozenset({"archive"}), {}, ())
        await self.ledger.write(partial(queries.plan_container, listing=listing))
        result = Result(output, Outcome.COMPLETED, Reason.DOWNLOADED, file)
        await self.recorder.record_result(result)
        return result

    async def download(self, stage, number, content, *, name="task_output.tar.gz", task="t", recorded=None):
        """
        Inspect, commit and record the archive of a job, or of its task, as a download does; return the file.

        ``recorded`` is called with the path of the file before the stage gets the result.
        """
        output = await self._plan(number, task)
        file = _downloaded_file("/".join(filter(None, ["p", f"j{number}", task, name])), content)
        partial_file = self.storage.partial_file(output)
        committed = await partial_file.load()
        if not isinstance(committed, CommittedFile):
            if committed is None or committed.offset != len(content):
                await partial_file.create(RemoteObject(file.source, file.validator, len(content), ()))
                await partial_file.write(content)
            await partial_file.read(
                lambda stream: stage.prepared.inspect(stream, output, file, inspect_archive)
            )
            committed = await partial_file.commit(file)
        partial_file.close()
        result = await self.recorder.record(Result(output, Outcome.COMPLETED, Reason.DOWNLOADED, committed))
        if recorded is not None:
            recorded(self.destination.locate(committed.key))
        await stage.enqueue(result)
        await partial_file.forget()
        return committed

    async def link(self, stage, number, file, name, task="t"):
        """Record the archive of a task as a link to ``file``."""
        linked = replace(file, key=f"p/j{number}/{task}/{name}")
        result = Result(await self._plan(number, task), Outcome.COMPLETED, Reason.LINKED, linked)
        await stage.enqueue(await self.recorder.record(result))

    def inspect(self, stage, number, content):
        """Inspect an archive that is not published afterwards."""
        output = job_output("p", f"j{number}", "t", Kind.ARCHIVE)
        file = _downloaded_file(f"p/j{number}/t/task_output.tar.gz", content)
        file = replace(file, source=f"https://storage.test/{number}")
        stage.prepared.inspect(io.BytesIO(content), output, file, inspect_archive)

    async def _plan(self, number, task):
        job = job_container("p", f"j{number}", "SUCCEEDED", "DEFAULT", "a name", AT, AT, "w")
        output = job_output("p", f"j{number}", task, Kind.ARCHIVE)
        listing = ContainerListing(job, (PlannedOutput(output),), frozenset({"archive"}), {}, ())
        await self.ledger.write(partial(queries.plan_container, listing=listing))
        return output

    @asynccontextmanager
    async def running(self, stage):
        """Run *stage* next to the downloads inside the block, and complete it after them."""
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(stage.execute())
            while not stage.prepared.is_open:  # noqa: ASYNC110 - the stage has no event for it
                await asyncio.sleep(0)
            yield
            stage.end_input()

    def _write(self, file, data):
        if isinstance(self.destination, MemoryDestination):
            self.destination.objects[file.key] = data
            return
        path = self.destination.locate(file.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:  # a test can create a hard link before
            path.write_bytes(data)

    async def derived_rows(self):
        """Return state, version, key and detail of all rows of the table."""
        return await self.ledger.read(
            lambda connection: [
                tuple(row)
                for row in connection.execute(
                    "SELECT state, version, key, coalesce(detail, '') FROM derived"
                    " ORDER BY output, processor, key"
                )
            ]
        )

    async def counts(self):
        return await self.ledger.read(derived_queries.count_derived)

    def derived_files(self):
        """Return key and content of all files that are neither outputs nor state."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.name != "out.bin" and ".bulkdl" not in path.parts
        }

    def scratch(self):
        folder = self.root / ".bulkdl" / "processing"
        return sorted(folder.rglob("*")) if folder.exists() else []


def _downloaded_file(key, content):
    digester = Digester()
    digester.update(content)
    validator = Validator("etag", "date", "1")
    return CommittedFile(key, len(content), digester.crc32c, validator, "https://storage.test/object")


@asynccontextmanager
async def processed_directory(root, outputs=0, state=None, destination=None):
    executors = Executors(2, 1, 2)
    storage = create_storage(root, state, executors=executors)
    if destination is not None:
        storage = Storage(destination, storage.state)
    storage.state.prepare()
    ledger = await Ledger.open(storage.state.ledger_path, flush=storage.destination.flush)
    directory = ProcessedDirectory(root, ledger, storage, executors)
    try:
        for number in range(outputs):
            await directory.complete(number)
        yield directory
    finally:
        await ledger.close()
        executors.close()
