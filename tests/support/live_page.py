"""A run with a live page, and the page in a browser."""

import subprocess
from dataclasses import dataclass

from playwright.sync_api import Page


@dataclass
class LiveRun:
    """A run that is going on, and where it can be looked at."""

    url: str
    process: subprocess.Popen[str]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


@dataclass
class Look:
    """A page, and what went wrong or left the origin while it was looked at."""

    page: Page
    complaints: list[str]
    requested: list[str]
