"""
The same hostile origin for bulkdl and its peers: one cell for each fault and tool.

``python tests/robustness/matrix.py docs/robustness.md`` runs all that are installed and writes the page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from origin import Fault, Origin, Thing, identity

SIZE_BYTES = 8 << 20
CANARY = "Bearer canary-matrix-51"
PATIENCE_S = 60
Faults = Callable[[str, str, int], Fault | None]


@dataclass(frozen=True)
class Tool:
    """
    A downloader.

    Attributes:
        command: From (URL, file, whether to send a token).
        version: A command whose first line names it.
    """

    name: str
    label: str
    command: Callable[[str, Path, bool], list[str]]
    version: Sequence[str]


def _curl(url: str, file: Path, token: bool) -> list[str]:
    header = ["-H", f"Authorization: {CANARY}"] if token else []
    return ["curl", "-fsSL", "-C", "-", "--retry", "3", "--retry-all-errors", *header, "-o", str(file), url]


def _wget(url: str, file: Path, token: bool) -> list[str]:
    header = [f"--header=Authorization: {CANARY}"] if token else []
    return ["wget", "-q", "-c", "--tries=4", "--waitretry=1", *header, "-O", str(file), url]


def _aria2c(url: str, file: Path, token: bool) -> list[str]:
    header = [f"--header=Authorization: {CANARY}"] if token else []
    where = [f"--dir={file.parent}", f"--out={file.name}"]
    return ["aria2c", "-q", "-x4", "-c", "--max-tries=4", "--retry-wait=1", *header, *where, url]


def _rclone(url: str, file: Path, token: bool) -> list[str]:
    header = ["--header", f"Authorization: {CANARY}"] if token else []
    return ["rclone", "copyurl", "--retries", "3", "--low-level-retries", "3", *header, url, str(file)]


PEERS = (
    Tool("curl", "`curl -C - --retry 3`", _curl, ("curl", "--version")),
    Tool("wget", "`wget -c`", _wget, ("wget", "--version")),
    Tool("aria2c", "`aria2c -x4 -c`", _aria2c, ("aria2c", "--version")),
    Tool("rclone", "`rclone copyurl`", _rclone, ("rclone", "version")),
)


class Attempt:
    """One tool, one directory, one origin: it can be run again and again."""

    def __init__(self, tool: Tool | None, origin: Origin, folder: Path) -> None:
        self.tool, self.origin, self.folder = tool, origin, folder
        self.with_token = False
        self.exits: list[int] = []

    @property
    def file(self) -> Path:
        """Where the archive lands."""
        if self.tool is not None:
            return self.folder / "output.tgz"
        owner = self.folder / self.origin.project / identity(1, 0) / identity(2, 0)
        return owner / "task_output.tar.gz"

    def start(self) -> subprocess.Popen[bytes]:
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if self.tool is not None:
            command = self.tool.command(self.origin.plain_url(0), self.file, self.with_token)
            return subprocess.Popen(command, **silent)  # type: ignore[call-overload,no-any-return]
        command = [sys.executable, "-m", "bulkdl", "run", "-o", str(self.folder), "-q", "--only", "archive"]
        command += ["--level", "task", "--retries", "3", "--api-url", self.origin.api_url]
        login = {"UP42_PROJECT_ID": self.origin.project, "UP42_PROJECT_API_KEY": self.origin.key}
        swift = {"BULKDL_RETRY_BASE_S": "0.01", "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(command, env={**os.environ, **login, **swift}, **silent)  # type: ignore[call-overload,no-any-return]

    def run(self) -> int:
        with self.start() as process:
            try:
                code = process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = -9
        self.exits.append(code)
        return code

    def run_and_kill(self) -> None:
        """Kill it when half of the bytes have gone out."""
        with self.start() as process:
            end_s = time.monotonic() + PATIENCE_S
            while self.origin.sent_bytes() < SIZE_BYTES // 2 and time.monotonic() < end_s:
                time.sleep(0.02)
            time.sleep(0.3)  # for what is in the sockets
            process.kill()
        self.exits.append(-9)

    @property
    def right(self) -> bool:
        return self.file.is_file() and self.file.read_bytes() == self.origin.things[0].body

    @property
    def honest(self) -> bool:
        """Right and 0, or not 0 and nothing wrong under the final name."""
        return self.right if self.exits[-1] == 0 else not self.file.exists() or self.right


def nothing(_server: str, _path: str, _count: int) -> Fault | None:
    return None


def of_storage(*script: Fault, then: Fault | None = None) -> Faults:
    """The n-th request to the storage meets the n-th fault of the *script*, all later ones *then*."""

    def faults(server: str, _path: str, count: int) -> Fault | None:
        if server != "storage":
            return None
        return script[count - 1] if count <= len(script) else then

    return faults


def drop(one: Attempt) -> bool:
    one.origin.faults = of_storage("cut")
    return one.run() == 0 and one.right


def rerun(one: Attempt) -> bool:
    one.origin.faults = of_storage("cut", then="503")
    failed = one.run() != 0
    one.origin.faults = nothing
    return failed and one.run() == 0 and one.right


def killed(one: Attempt) -> bool:
    one.origin.faults = of_storage("stall")
    one.run_and_kill()
    one.origin.faults = nothing
    return one.run() == 0 and one.right


def changed(one: Attempt) -> bool:
    one.origin.faults = of_storage("stall")
    one.run_and_kill()
    one.origin.things[0].change()
    one.origin.faults = nothing
    return one.run() == 0 and one.right


def throttled(one: Attempt) -> bool:
    one.origin.faults = of_storage("429:2")
    code = one.run()
    at_s = [each.at_s for each in one.origin.asked if each.server == "storage"]
    return code == 0 and one.right and at_s[1] - at_s[0] >= 1.9


def unavailable(one: Attempt) -> bool:
    one.origin.faults = of_storage("503")
    return one.run() == 0 and one.right


def stranger(one: Attempt) -> bool:
    """The API of bulkdl, and the storage of everybody, send to another host."""
    one.with_token = True
    one.origin.faults = lambda server, path, _count: (
        "redirect" if server == "storage" or path.endswith("/outputs/data-json") else None
    )
    one.run()
    seen = [each for each in one.origin.asked if each.server == "stranger"]
    return bool(seen) and not any("Authorization" in each.headers for each in seen)


def truncated(one: Attempt) -> bool:
    one.origin.faults = of_storage(then="cut:0")
    return one.run() != 0 and one.honest


def error_page(one: Attempt) -> bool:
    one.origin.faults = of_storage("xml")
    one.run()
    return one.honest


FAULTS: Mapping[str, Callable[[Attempt], bool]] = {
    "drop mid-body, same run": drop,
    "run fails, plain rerun": rerun,
    "kill -9 half way, rerun": killed,
    "object changed (same size) between runs": changed,
    "429 `Retry-After: 2`": throttled,
    "503 once": unavailable,
    "no Authorization to another host on a redirect": stranger,
    "every body cut off": truncated,
    "XML error page with status 200": error_page,
}


@dataclass(frozen=True)
class Cell:
    """How it went; *times* is bytes moved over bytes needed."""

    passed: bool
    times: float
    exits: tuple[int, ...]

    def __str__(self) -> str:
        exits = ", ".join(str(code) if code >= 0 else "killed" for code in self.exits)
        return f"{'pass' if self.passed else '**fail**'} · {self.times:.2f} × · exit {exits}"


@contextmanager
def attempt(tool: Tool | None) -> Iterator[Attempt]:
    with tempfile.TemporaryDirectory() as folder, Origin([Thing(7, SIZE_BYTES)]) as origin:
        yield Attempt(tool, origin, Path(folder))


def cell(tool: Tool | None, fault: str) -> Cell:
    """Run one; *tool* None is bulkdl."""
    with attempt(tool) as one:
        passed = FAULTS[fault](one)
        return Cell(passed, one.origin.sent_bytes() / len(one.origin.things[0].body), tuple(one.exits))


def page(rows: Mapping[str, Sequence[Cell]], versions: Sequence[str], today: str) -> str:
    lines = [
        "# Nine faults, and who survives them",
        "",
        f"Made by `make robustness` on {today}: {', '.join(versions)}.",
        "One archive of 8 MiB from a hostile origin on loopback (`tests/robustness/origin.py`). A cell tells",
        "whether the tool passed, bytes moved over bytes needed, and the exit code of each run. To pass is",
        "to have the right bytes and exit code 0; where no right bytes are to be had, another exit code and",
        "no file under its name. bulkdl asks UP42 for a signed URL, the others get a plain one; in the row",
        "of the redirect all of them send `Authorization` to the first host.",
        "",
        "| fault | " + " | ".join(rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for number, fault in enumerate(FAULTS):
        lines.append(f"| {fault} | " + " | ".join(str(cells[number]) for cells in rows.values()) + " |")
    return "\n".join(lines) + "\n"


def first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.splitlines()[0].split()[:3])


def main(target: Path) -> None:
    peers = [tool for tool in PEERS if shutil.which(tool.version[0])]
    rows = {"**bulkdl**": [cell(None, fault) for fault in FAULTS]}
    for tool in peers:
        rows[tool.label] = [cell(tool, fault) for fault in FAULTS]
    versions = [first_line((sys.executable, "-m", "bulkdl", "--version"))]
    versions += [first_line(tool.version) for tool in peers]
    target.write_text(page(rows, versions, f"{datetime.now(UTC):%Y-%m-%d}"), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
