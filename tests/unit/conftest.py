"""
Provide a clock that advances only during a sleep, log lines, file events, and restored signal handlers.

aiohttp requires the argument ``stream_writer`` of ``ClientResponse``. aioresponses 0.7.9 does not pass it, so
a fixture adds it. Remove the fixture when a release of aioresponses passes it.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest


class _Response(aiohttp.ClientResponse):
    def __init__(self, *args, **kwargs):
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


@pytest.fixture(autouse=True, scope="session")
def _aioresponses_for_this_aiohttp():
    patch = pytest.MonkeyPatch()
    patch.setattr(aioresponses.core, "ClientResponse", _Response)
    yield
    patch.undo()


class Timeline:
    """A clock that advances only by its own ``sleep``."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []
        self.sleep_started = asyncio.Event()

    def clock(self):
        return self.now

    async def sleep(self, delay_s):
        self.slept.append(delay_s)
        self.now += delay_s
        self.sleep_started.set()
        await asyncio.sleep(0)


@pytest.fixture
def timeline():
    return Timeline()


@pytest.fixture
def own_signals():
    """Restore the signal handlers after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def logs(caplog):
    """Gives the lines of our own loggers so far, as fields."""
    caplog.set_level(logging.DEBUG, "bulkdl")
    return lambda: [record.msg for record in caplog.records if record.name.startswith("bulkdl")]


@pytest.fixture
def sync_events(monkeypatch):
    """Record the names of files that are fsynced and renamed, in order."""
    events = []
    fsync, replace = os.fsync, Path.replace

    def recording_fsync(handle):
        events.append(("fsync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def recording_replace(path, target):
        replace(path, target)
        events.append(("replace", target.name))

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(Path, "replace", recording_replace)
    return events
