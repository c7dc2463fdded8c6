"""A library says nothing unless it is asked to, and leaves the application's logging as it is."""

import io
import logging
import subprocess
import sys

import pytest
import structlog

from bulkdl.log import get_logger

RUN = """
import asyncio, sys
from pydantic import SecretStr
from bulkdl import Downloader, Settings
from bulkdl.settings import CredentialSet
from bulkdl.simulator import SimulatedAccount, Faults, Simulator

async def main():
    faults = Faults.from_rules({"fault": "status", "status": 403, "endpoint": "geojson"})
    account = SimulatedAccount(projects=1, jobs=1, archive_bytes=1000)
    async with Simulator(account, faults=faults) as simulator:
        (project,) = simulator.projects
        book = CredentialSet(by_project={project.id: SecretStr(project.api_key)}, project_ids=(project.id,))
        settings = Settings(api_url=simulator.api_url, output=sys.argv[1])
        async with Downloader(settings, credentials=book) as downloader:
            summary = await downloader.run()
        assert summary.exit_code == 3, summary

asyncio.run(main())
"""
CONFIGURED = (
    "import logging; logging.basicConfig(level='INFO', format='%(levelname)s %(name)s %(message)s')\n"
)


def run(tmp_path, code):
    return subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out"], capture_output=True, text=True, check=True
    )


def test_the_library_writes_nothing_of_its_own_accord(tmp_path):
    done = run(tmp_path, RUN)
    assert (done.stdout, done.stderr) == ("", "")


def test_who_configures_logging_gets_the_lines_there(tmp_path):
    done = run(tmp_path, CONFIGURED + RUN)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert any(line.startswith("INFO bulkdl.graph.downloader run.started output=") for line in lines)
    failed = next(line for line in lines if "transfer.failed" in line)
    assert failed.startswith("WARNING bulkdl.graph.recorder transfer.failed")
    assert "reason='forbidden'" in failed
    assert "job_id=" in failed


@pytest.fixture
def heard():
    """What a handler of the application gets of ``bulkdl``."""
    text = io.StringIO()
    handler, ours = logging.StreamHandler(text), logging.getLogger("bulkdl")
    ours.addHandler(handler)
    yield text
    ours.removeHandler(handler)


def test_fields_may_have_any_name(heard):
    with structlog.contextvars.bound_contextvars(name="ü"):
        get_logger("bulkdl.x").warning("x.happened", message="m", msg="100 %s", args=(1,))
    assert heard.getvalue() == "x.happened message='m' msg='100 %s' args=(1,) name='ü'\n"


def test_a_traceback_is_told_too(heard):
    try:
        int("no")
    except ValueError:
        get_logger("bulkdl.x").exception("x.crashed")
    first, *rest = heard.getvalue().splitlines()
    assert first == "x.crashed"
    assert rest[-1].startswith("ValueError: invalid literal")


def test_the_application_s_structlog_has_no_say_in_it(heard):
    seen = []
    structlog.configure(processors=[lambda *event: seen.append(event)])
    try:
        get_logger("bulkdl.x").warning("x.happened")
    finally:
        structlog.reset_defaults()
    assert seen == []
    assert heard.getvalue() == "x.happened\n"
