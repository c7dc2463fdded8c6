"""The loggers: silent by default, and independent of the logging configuration of the application."""

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
        keys = {project.id: SecretStr(project.api_key)}
        credentials = CredentialSet(by_project=keys, project_ids=(project.id,))
        settings = Settings(api_url=simulator.api_url, output=sys.argv[1])
        async with Downloader(settings, credentials=credentials) as downloader:
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


def test_run_without_logging_configuration_writes_nothing(tmp_path):
    completed = run(tmp_path, RUN)
    assert (completed.stdout, completed.stderr) == ("", "")


def test_run_with_logging_configuration_logs_there(tmp_path):
    completed = run(tmp_path, CONFIGURED + RUN)
    assert completed.stdout == ""
    lines = completed.stderr.splitlines()
    assert any(line.startswith("INFO bulkdl.graph.downloader run.started output=") for line in lines)
    failed = next(line for line in lines if "transfer.failed" in line)
    assert failed.startswith("WARNING bulkdl.graph.recorder transfer.failed")
    assert "reason='forbidden'" in failed
    assert "job_id=" in failed


@pytest.fixture
def written():
    """The text that a handler of the application writes for ``bulkdl``."""
    text = io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger("bulkdl")
    logger.addHandler(handler)
    yield text
    logger.removeHandler(handler)


def test_log_fields_can_have_any_name(written):
    with structlog.contextvars.bound_contextvars(name="ü"):
        get_logger("bulkdl.x").warning("x.happened", message="m", msg="100 %s", args=(1,))
    assert written.getvalue() == "x.happened message='m' msg='100 %s' args=(1,) name='ü'\n"


def test_exception_logs_the_traceback(written):
    try:
        int("no")
    except ValueError:
        get_logger("bulkdl.x").exception("x.crashed")
    first, *rest = written.getvalue().splitlines()
    assert first == "x.crashed"
    assert rest[-1].startswith("ValueError: invalid literal")


def test_log_ignores_the_structlog_configuration_of_the_application(written):
    processed = []
    structlog.configure(processors=[lambda *event: processed.append(event)])
    try:
        get_logger("bulkdl.x").warning("x.happened")
    finally:
        structlog.reset_defaults()
    assert processed == []
    assert written.getvalue() == "x.happened\n"
