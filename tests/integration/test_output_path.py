"""
Follow one output through the code, from the queue of its pool to its record.

The path must be short enough to draw it from the list of the files. These rules define how it is counted:

- The path consists of the functions of bulkdl that get the output: one of their arguments is the ``Output``,
  or a value that contains it (``PlannedOutput``, ``Result``, or a tuple or list of them). A function counts
  once, when it starts.
- The path begins when the queue returns the output to a worker. It ends with the last such function.
- Modules of plain values and observers do not count: they do not work on the output.
- A stay is a longest sequence of functions in one file.
- A stay climbs back if its file was left before, and a function of this file calls its first function.
  The reader then has to remember where the path left the caller.

The order does not depend on time: the worker waits for each step, also for those in other threads.
"""

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import FrameType

import pytest
from pydantic import SecretStr

import bulkdl
from bulkdl import Downloader, Settings
from bulkdl.concurrency import Channel
from bulkdl.listings import PlannedOutput
from bulkdl.models import Outcome, Output, Reason, Result
from bulkdl.settings import AccountCredentials, CredentialSet
from bulkdl.simulator import SimulatedAccount, Simulator
from bulkdl.simulator.v2.deliveries import StorageOptions
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.sources.up42_storage.spec import ORIGINAL, SOURCE
from support.library_runs import library_environment

ROOT = Path(bulkdl.__file__).parent
PAGE = (ROOT.parent / "docs" / "architecture.md").read_text("utf-8")
NOT_COUNTED = re.compile(r"(models|listings|source_spec)\.py|(telemetry|report|simulator)/")
HAS_ARGUMENTS = 4, 8  # the flags of code with *args and with **kwargs

MAX_STAYS = 12
MAX_FILES = 8
MAX_CLIMBS = 2


class OutputTrace:
    """The functions that get the first output of *kind* after a worker has taken it from its queue."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._output: Output | None = None
        self._frames: list[FrameType] = []
        self._calls: list[tuple[str, str]] = []

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the calls of this thread and of the threads that it starts."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]

    def _profile(self, frame: FrameType, event: str, returned: object) -> None:
        if event == "return" and frame.f_code is Channel.get_nowait.__code__:
            self._output = self._output or self._find_first(returned)
        elif event == "call" and self._output and find_file(frame) and self._gets_output(frame):
            self._frames.append(frame)
            self._calls.append((find_file(frame), find_file(frame.f_back)))

    def _find_first(self, group: object) -> Output | None:
        first = group[0] if isinstance(group, tuple) else None
        return first.output if isinstance(first, PlannedOutput) and first.output.kind == self._kind else None

    def _gets_output(self, frame: FrameType) -> bool:
        is_continued = frame in self._frames  # a coroutine continues in its frame
        return not is_continued and any(map(self._has_output, read_arguments(frame)))

    def _has_output(self, value: object) -> bool:
        if isinstance(value, (tuple, list)):
            return any(map(self._has_output, value))
        if isinstance(value, (PlannedOutput, Result)):
            value = value.output
        return isinstance(value, Output) and value == self._output

    def stays(self) -> list[tuple[str, bool]]:
        """Return the file of each stay, and whether the stay climbs back."""
        found, left = [], set()
        for file, calls in groupby(self._calls, itemgetter(0)):
            _, caller = next(calls)
            found.append((file, file in left and caller == file))
            left.add(file)
        return found


def find_file(frame: FrameType | None) -> str:
    """Return the path of the module of *frame* below the package; empty if it does not count."""
    return relative_file(frame.f_code.co_filename) if frame else ""


@cache
def relative_file(name: str) -> str:
    path = Path(name)
    file = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return "" if NOT_COUNTED.match(file) else file


def read_arguments(frame: FrameType) -> list[object]:
    code = frame.f_code
    variable = sum(bool(code.co_flags & flag) for flag in HAS_ARGUMENTS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + variable]
    return [frame.f_locals[name] for name in names if name in frame.f_locals]


async def trace_archive(tmp_path: Path) -> list[tuple[str, bool]]:
    """Download archives that need a partial file, and return the stays of the path of the first one."""
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=(2 << 20, 3 << 20))
    async with library_environment(tmp_path, account) as site:
        trace = OutputTrace(Kind.ARCHIVE)
        with trace.record():
            summary = await site.run()
    assert summary.counts[Kind.ARCHIVE, Outcome.COMPLETED, Reason.DOWNLOADED].size_bytes >= 2 << 20
    return trace.stays()


async def trace_original(tmp_path: Path) -> list[tuple[str, bool]]:
    """Download deliveries, and return the stays of the path of the first original."""
    async with Simulator(SimulatedAccount(storage=StorageOptions(assets=1))) as simulator:
        username, password = simulator.account_credentials
        credentials = CredentialSet(accounts=(AccountCredentials("main", username, SecretStr(password)),))
        settings = Settings(api_url=simulator.api_url, output=tmp_path, source=SOURCE)
        trace = OutputTrace(ORIGINAL)
        with trace.record():
            async with Downloader(settings, credentials=credentials) as downloader:
                summary = await downloader.run()
    assert summary.counts[ORIGINAL, Outcome.COMPLETED, Reason.DOWNLOADED]
    return trace.stays()


@pytest.mark.parametrize("trace", [trace_archive, trace_original])
async def test_path_of_an_output_is_short(tmp_path, trace):
    stays = await trace(tmp_path)
    files = [file for file, _ in stays]
    assert files[0] == "graph/pools.py"
    assert len(files) <= MAX_STAYS
    assert len(set(files)) <= MAX_FILES
    assert sum(climbs for _, climbs in stays) <= MAX_CLIMBS


async def test_path_of_an_archive_is_described_by_the_architecture_page(tmp_path):
    stays = await trace_archive(tmp_path)
    section = PAGE.split("\n## The path of one output\n")[1].split("\n## ")[0]
    described = re.findall(r"^\| `([a-z_0-9/]+\.py)` \|", section, re.MULTILINE)
    assert described == list(dict.fromkeys(file for file, _ in stays))
