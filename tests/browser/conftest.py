"""Start a simulator, a slow run and Chromium."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from support.live_page import BrowserSession, LiveRun

PYTHON = os.environ.get("BULKDL_PYTHON", ".venv/bin/python")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FAULTS = Path(__file__).with_name("faults.toml")
WINDOW = {"width": 1180, "height": 1000}


@pytest.fixture
def api() -> Iterator[dict[str, str]]:
    command = [PYTHON, "-m", "bulkdl", "simulate", "--projects", "1", "--jobs", "40", "--seed", "4"]
    command += ["--archive-bytes", "1M-4M", "--faults", str(FAULTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            project = line["projects"][0]
            yield {
                "BULKDL_API_URL": line["api_url"],
                "UP42_PROJECT_ID": project["id"],
                "UP42_PROJECT_API_KEY": project["api_key"],
            }
        finally:
            process.terminate()


@pytest.fixture
def live_run(api: dict[str, str], tmp_path: Path) -> Iterator[LiveRun]:
    command = [PYTHON, "-m", "bulkdl", "run", "-o", str(tmp_path / "out"), "--listen", "127.0.0.1:0"]
    command += ["--archive-concurrency", "4", "--shutdown-timeout", "0", "--log-format", "json"]
    env = {"PATH": os.environ["PATH"], **api}
    # A pipe would block the run when its buffer is full, so the log is written to a file.
    with (tmp_path / "log").open("w+") as log, subprocess.Popen(command, env=env, stderr=log) as process:
        try:
            yield LiveRun(_url_in(tmp_path / "log", process), process)
        finally:
            process.kill()


def _url_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    while process.poll() is None:
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and (entry := json.loads(line))["event"] == "status_page.listening":
                return str(entry["url"])
    pytest.fail(log.read_text())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def session(browser: Browser) -> Iterator[BrowserSession]:
    context = browser.new_context(viewport=WINDOW, color_scheme="light", reduced_motion="reduce")
    page = context.new_page()
    session = BrowserSession(page, [], [])
    page.on("console", lambda message: session.errors.append(message.text))
    page.on("pageerror", lambda error: session.errors.append(str(error)))
    page.on("request", lambda request: session.requested.append(request.url))
    yield session
    context.close()
