"""Define the command, the version and the result file of each tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustness.origin import Origin, identity
from robustness.today_origin import TodayOrigin

HERE = Path(__file__).parent
PEER_PYTHON = os.environ.get("PEER_PYTHON", str(HERE.parents[1] / ".venv-peer" / "bin" / "python"))
STAC_PYTHON = os.environ.get("STAC_PYTHON", str(HERE.parents[1] / ".venv-peer_stac" / "bin" / "python"))
_VERSION_OF_UP42 = "from importlib.metadata import version; print('up42-py', version('up42-py'))"
PROJECT = {"UP42_PROJECT_ID": Origin.project, "UP42_PROJECT_API_KEY": Origin.key}
ACCOUNT = {"UP42_USERNAME": TodayOrigin.username, "UP42_PASSWORD": TodayOrigin.password}
ENVIRONMENT: Mapping[str, str] = {
    "BULKDL_RETRY_BASE_DELAY": "0.01",
    "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE.parent))),  # bulkdl, and tests/support
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


@dataclass(frozen=True)
class Tool:
    """
    A downloader.

    Attributes:
        words: The command with placeholders.
        version: A command whose first output line contains the version.
        header: Arguments that add a header. Empty for tools that authenticate with the API.
        file: Path of the archive below the folder.
        is_today: Whether the tool uses today's API.
    """

    label: str
    words: str
    version: Sequence[str]
    header: str = ""
    file: str = "output.tgz"
    is_today: bool = False

    @property
    def asks_api(self) -> bool:
        return not self.header

    @property
    def is_installed(self) -> bool:
        return shutil.which(self.version[0]) is not None

    def told_version(self) -> str:
        done = subprocess.run(self.version, capture_output=True, text=True, check=False)
        return " ".join(done.stdout.splitlines()[0].split()[:3])

    def typed(self) -> str:
        """Return the command as shown on the page."""
        peer = "PYTHONPATH=tests python"
        names = {"python": "python", "peer_python": peer, "stac_python": peer, "here": "tests/robustness"}
        return self.words.format(url="URL", api_url="API", folder="FOLDER", file=self.file, **names)

    def start(self, folder: Path, url: str, api_url: str, header: str | None) -> subprocess.Popen[bytes]:
        """Start the tool. *header* is used only by tools without an API client."""
        fill = {"python": sys.executable, "peer_python": PEER_PYTHON, "stac_python": STAC_PYTHON}
        fill |= {"here": HERE, "folder": folder}
        fill |= {"url": url, "api_url": api_url, "file": folder / self.file, "header": header}
        words = [*self.words.split(), *(self.header.split() if header else [])]
        return subprocess.Popen(
            [word.format(**fill) for word in words],
            env={**os.environ, **ENVIRONMENT, **(ACCOUNT if self.is_today else PROJECT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


BULKDL = Tool(
    "**bulkdl**",
    "{python} -m bulkdl run -q --only archive --scope task --retries 2 --speed-time 2"
    " --api-url {api_url} -o {folder}",
    (sys.executable, "-m", "bulkdl", "--version"),
    file=f"{Origin.project}/{identity(1, 0)}/{identity(2, 0)}/task_output.tar.gz",
)
PEERS = (
    Tool(
        "up42-py",
        "{peer_python} {here}/up42_py.py {api_url} {folder}",
        (PEER_PYTHON, "-c", _VERSION_OF_UP42),
    ),
    Tool(
        "curl",
        "curl -fsSL -C - --retry 3 --retry-all-errors --speed-limit 1024 --speed-time 2 -o {file} {url}",
        ("curl", "--version"),
        header="-H {header}",
    ),
    Tool(
        "wget",
        "wget -q -c --tries=4 --waitretry=1 --read-timeout=2 -O {file} {url}",
        ("wget", "--version"),
        header="--header={header}",
    ),
    Tool(
        "aria2c",
        "aria2c -q -x4 -c --max-tries=4 --retry-wait=1 --timeout=2 --dir={folder} --out=output.tgz {url}",
        ("aria2c", "--version"),
        header="--header={header}",
    ),
    Tool(
        "rclone",
        "rclone copyurl --retries 3 --low-level-retries 3 --timeout 2s {url} {file}",
        ("rclone", "version"),
        header="--header {header}",
    ),
)
BULKDL_STORAGE = Tool(
    "**bulkdl**",
    "{python} -m bulkdl run -q --source storage --only original --retries 2 --speed-time 2"
    " --api-url {api_url} -o {folder}",
    (sys.executable, "-m", "bulkdl", "--version"),
    file=f"{TodayOrigin.workspace}/{identity(6, 0)}/output.tgz",
    is_today=True,
)
UP42_STAC = Tool(
    "up42-py 4.3.0",
    "{stac_python} {here}/up42_py_stac.py {api_url} {folder}",
    (STAC_PYTHON, "-c", _VERSION_OF_UP42),
    is_today=True,
)
