"""Check that wrong call orders raise errors, even with ``python -O``, which removes assertions."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
from pathlib import Path
from bulkdl.state.storage import create_storage
from bulkdl.http.rate_limit import Cooldown
from bulkdl.http.retry import RetryPolicy
from bulkdl.settings import Settings
from bulkdl.sources.sessions import SessionOptions, Sessions
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.transfer.remote_files import SignedUrlSource

assert False, "assertions are disabled"


async def write_before_create():
    storage = create_storage(Path(sys.argv[1]))
    storage.state.prepare()
    await storage.partial_file(job_output("p", "j", "t", Kind.ARCHIVE)).write(b"x")


async def open_before_prepare():
    remote_file = SignedUrlSource(None, None, Cooldown(), RetryPolicy(), headers_timeout_s=1)
    async with remote_file.open({}):
        pass


async def sessions_before_enter():
    options = SessionOptions(1, lambda session: None)
    Sessions(Settings(), options, options).api


for call in (write_before_create, open_before_prepare, sessions_before_enter):
    try:
        asyncio.run(call())
    except RuntimeError as error:
        print(error)
"""


def test_wrong_call_order_without_assertions_raises_a_clear_error(tmp_path: Path) -> None:
    command = [sys.executable, "-O", "-c", PROGRAM, str(tmp_path)]
    messages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert messages == [
        "the partial file has no data file: call create() or load() first",
        "open() was called before prepare()",
        "the sessions are not open; use them inside `async with`",
    ]
