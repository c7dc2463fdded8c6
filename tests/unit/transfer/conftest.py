"""Fixtures for downloads: a scripted storage, a destination on disk, and a sleep that only records delays."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bulkdl.concurrency import ConcurrencyLimiter
from bulkdl.http.rate_limit import Cooldown, RateLimiter
from bulkdl.http.sessions import storage_session
from bulkdl.models import Outcome
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.state.storage import create_storage
from bulkdl.transfer.context import Limits, TransferContext
from bulkdl.transfer.download import Download
from bulkdl.transfer.remote_files import ApiSource, SignedUrlSource
from support.scripted_store import Store, serving
from support.transfer_objects import POLICY


class DownloadSite:
    """A store, a destination, and downloads of one output; it is the observer of the downloads."""

    def __init__(self, root: Path, store, session, timeline):
        self.store, self.timeline, self._session = store, timeline, session
        self.storage = create_storage(root)
        self.storage.state.prepare()
        self.output = job_output("p", "j", "t", Kind.ARCHIVE)
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

    def signed_url(self):
        return SignedUrlSource(
            self._session,
            self.store.sign,
            self.cooldown,
            POLICY,
            headers_timeout_s=30,
        )

    def api_file(self):
        """Return the object as a file of the API, which does not support ranges."""

        @asynccontextmanager
        async def get():
            async with self._session.get(await self.store.sign()) as response:
                yield response, b""

        return ApiSource(get)

    async def download(self, *, remote_file=None, kind=Kind.ARCHIVE, name="output", recorded=True):
        output = job_output("p", "j", "t", kind)
        partial_file = self.storage.partial_file(output)
        remote_file = remote_file or self.signed_url()
        result = await Download(
            output, remote_file, partial_file, lambda suffix: name + suffix, self.context, self
        ).run()
        if result.outcome is Outcome.COMPLETED and recorded:
            await partial_file.forget()
        return result

    async def begin_body(self, total_bytes):
        pass

    def retrying(self, reason, delay_s):
        self.scheduled.append((reason, delay_s))

    def received(self, at_bytes, total_bytes, downloaded_bytes):
        self.progress.append((at_bytes, total_bytes, downloaded_bytes))
        for min_bytes, event in self.awaited.items():
            if at_bytes >= min_bytes:
                event.set()

    async def arrived(self, at_bytes):
        """Return when *at_bytes* bytes are received."""
        await self.awaited.setdefault(at_bytes, asyncio.Event()).wait()

    def files(self):
        """Return the files with a final name."""
        return {
            path.relative_to(self.storage.destination.root).as_posix(): path.read_bytes()
            for path in self.storage.destination.root.rglob("*")
            if path.is_file() and ".bulkdl" not in path.parts
        }

    def partial_files(self):
        return sorted(path.name for path in self.storage.state.partial_folder.iterdir())


@pytest.fixture
async def make_site(tmp_path, timeline):
    """Create a ``DownloadSite`` with a store: ``make_site(body, etag=None, …)``."""
    async with _Opening(tmp_path, timeline) as opening:
        yield opening.open


class _Opening:
    def __init__(self, root, timeline):
        self._root, self._timeline, self._exits = root, timeline, []

    async def __aenter__(self):
        return self

    async def open(self, body, **options):
        server = serving(Store(body, **options))
        store = await server.__aenter__()
        session = storage_session(user_agent="test", connect_timeout_s=10, limit=8)
        self._exits += [session.close(), server.__aexit__(None, None, None)]
        return DownloadSite(self._root / "out", store, session, self._timeline)

    async def __aexit__(self, *_):
        for pending in self._exits:
            await pending
