"""Test of a download that runs out of open files: it resumes with the bytes on disk."""

import errno
import os

import pytest

from bulkdl.disk import atomic_files
from bulkdl.models import Outcome
from support.transfer_objects import LARGE


@pytest.mark.parametrize("step", ["rename_into_place", "sync_file"])
async def test_download_without_open_files_at_commit_keeps_the_bytes(make_site, monkeypatch, step):
    site = await make_site(LARGE)
    left, call = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))], getattr(atomic_files, step)

    def exhausted(*args):
        if left and (step == "sync_file" or args[0].suffix == ".part"):
            raise left.pop()
        return call(*args)

    monkeypatch.setattr(atomic_files, "OPEN_FILE_RETRY_DELAYS_S", ())
    monkeypatch.setattr(atomic_files, step, exhausted)
    result = await site.download()
    assert (result.outcome, result.attempts, left) == (Outcome.COMPLETED, 2, [])
    assert list(site.files().values()) == [LARGE]
    assert result.downloaded_bytes == len(LARGE)
