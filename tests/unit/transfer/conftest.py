"""What a transfer needs around it: a scripted storage, a sink on disk, a sleep that is only noted."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.http.rate_limit import Cooldown, RateLimiter
from bulkdl.http.sessions import storage_session
from bulkdl.models import Kind, Outcome, Output
from bulkdl.transfer.context import Limits, TransferContext
from bulkdl.transfer.download import Download
from bulkdl.transfer.remote_files import ApiSource, SignedUrlSource
from support.scripted_store import Store, serving
from support.transfer_objects import POLICY


class Yard:
    """A sink in a folder, and fetches of one output into it."""

    def __init__(self, root: Path, store, session, timeline):
        self.store, self.timeline, self._session = store, timeline, session
        self.sink = LocalDestination(root)
        self.sink.prepare()
        self.output = Output("p", "j", "t", Kind.ARCHIVE)
        self.scheduled = []
        self.progress = []
        self.awaited = {}
        self.context = TransferContext(
            Limits(max_bytes={}),
            POLICY,
            RateLimiter(0, 1),
            ConcurrencyLimiter(1),
            rand=lambda: 1.0,
            sleep=timeline.sleep,
        )
        self.cooldown = Cooldown(clock=timeline.clock, sleep=timeline.sleep, rand=lambda: 0.0)

    def set_context(self, **changes):
        """Change the context of the following downloads."""
        self.context = replace(self.context, **changes)

    def signed(self):
        return SignedUrlSource(
            self._session,
            self.store.sign,
            self.cooldown,
            POLICY,
            headers_timeout_s=30,
        )

    def served(self):
        """The object as something that the API itself serves: no ranges."""

        @asynccontextmanager
        async def get():
            async with self._session.get(await self.store.sign()) as response:
                yield response, b""

        return ApiSource(get)

    async def fetch(self, *, origin=None, kind=Kind.ARCHIVE, name="output", recorded=True):
        output = Output("p", "j", "t", kind)
        part = self.sink.partial_file(output)
        remote_file = origin or self.signed()
        download = Download(output, remote_file, part, lambda suffix: name + suffix, self.context, self)
        result = await download.run()
        if result.outcome is Outcome.COMPLETED and recorded:
            await part.forget()
        return result

    def retrying(self, reason, delay_s):
        self.scheduled.append((reason, delay_s))

    def received(self, at_bytes, total_bytes, downloaded_bytes):
        self.progress.append((at_bytes, total_bytes, downloaded_bytes))
        for wanted_bytes, event in self.awaited.items():
            if at_bytes >= wanted_bytes:
                event.set()

    async def arrived(self, at_bytes):
        """Return once that many bytes have come."""
        await self.awaited.setdefault(at_bytes, asyncio.Event()).wait()

    def files(self):
        """Everything under a final name."""
        return {
            path.relative_to(self.sink.root).as_posix(): path.read_bytes()
            for path in self.sink.root.rglob("*")
            if path.is_file() and ".bulkdl" not in path.parts
        }

    def parts(self):
        return sorted(path.name for path in self.sink.state.partial_folder.iterdir())


@pytest.fixture
async def yard(tmp_path, timeline):
    """Make a ``Yard`` around a store: ``yard(body, etag=None, …)``."""
    async with _Opening(tmp_path, timeline) as opening:
        yield opening.open


class _Opening:
    def __init__(self, root, timeline):
        self._root, self._timeline, self._exits = root, timeline, []

    async def __aenter__(self):
        return self

    async def open(self, body, **facts):
        server = serving(Store(body, **facts))
        store = await server.__aenter__()
        session = storage_session(user_agent="test", connect_timeout_s=10, limit=8)
        self._exits += [session.close(), server.__aexit__(None, None, None)]
        return Yard(self._root / "out", store, session, self._timeline)

    async def __aexit__(self, *_):
        for leaving in self._exits:
            await leaving
