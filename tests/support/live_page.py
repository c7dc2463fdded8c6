"""A run with a status page, and the page in a browser."""

import subprocess
from dataclasses import dataclass

from playwright.sync_api import Page


@dataclass
class LiveRun:
    """A run in progress and the URL of its status page."""

    url: str
    process: subprocess.Popen[str]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


@dataclass
class BrowserSession:
    """A page, its error messages and its requested URLs."""

    page: Page
    errors: list[str]
    requested: list[str]
