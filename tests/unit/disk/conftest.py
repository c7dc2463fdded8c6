"""Fixtures for the tests of the disk."""

import os
from pathlib import Path

import pytest


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
