"""
Define the faults of the matrix. Each function injects one fault and returns whether the tool passed.

A tool passes if the file is correct and the last exit code is 0. Exceptions are stated at the function.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from robustness.origin import Fault, Origin, RecordedRequest
from robustness.stored_objects import StoredArchive
from robustness.today_origin import StoredFile, TodayOrigin
from robustness.tools import Tool

SIZE_BYTES = 8 << 20
CANARY = "Authorization: Bearer canary-matrix-51"
PATIENCE_S = 150  # up42-py detects a stall after 120 s
KILLED, HUNG = -9, -1
Faults = Callable[[str, str, int], Fault | None]


def has_bytes_in_sockets(port: int) -> bool:
    """Return whether a connection with *port* has bytes that its reader has not taken."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    for table in (table for table in tables if table.exists()):
        for line in table.read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            ports = {int(address.rpartition(":")[2], 16) for address in (local, remote)}
            if port in ports and int(queues.replace(":", ""), 16):
                return True
    return False


class Attempt:
    """Runs of one tool with one directory and one server."""

    def __init__(self, tool: Tool, origin: Origin, folder: Path) -> None:
        self.tool, self.origin, self.folder = tool, origin, folder
        self.url = origin.plain_url(0)
        self.header: str | None = None
        self.exits: list[int] = []

    def run(self) -> int:
        """Run the tool and return its exit code."""
        with self.tool.start(self.folder, self.url, self.origin.api_url, self.header) as process:
            try:
                self.exits.append(process.wait(PATIENCE_S))
            except subprocess.TimeoutExpired:
                process.kill()
                self.exits.append(HUNG)
        return self.exits[-1]

    def run_and_kill(self) -> None:
        """Kill the tool after the server has sent half of the bytes."""
        with self.tool.start(self.folder, self.url, self.origin.api_url, self.header) as process:
            end_s = time.monotonic() + PATIENCE_S
            while (
                self.origin.sent_bytes() < SIZE_BYTES // 2
                or has_bytes_in_sockets(self.origin.storage.server_port)
            ) and time.monotonic() < end_s:
                time.sleep(0.02)
            time.sleep(0.3)  # lets the tool write what it has read
            process.kill()
        self.exits.append(KILLED)

    def requests_to(self, server: str) -> list[RecordedRequest]:
        return [request for request in self.origin.requests if request.server == server]

    @property
    def is_right(self) -> bool:
        """Return whether the file equals the current object."""
        file = self.folder / self.tool.file
        return file.is_file() and file.read_bytes() == self.origin.objects[0].body

    @property
    def is_done(self) -> bool:
        return self.exits[-1] == 0 and self.is_right

    @property
    def is_honest(self) -> bool:
        """Return whether the file is correct, or the tool failed without creating the final file."""
        return self.is_right or (self.exits[-1] != 0 and not (self.folder / self.tool.file).exists())


@contextmanager
def attempt(tool: Tool) -> Iterator[Attempt]:
    origin = (
        TodayOrigin([StoredFile(7, SIZE_BYTES)]) if tool.is_today else Origin([StoredArchive(7, SIZE_BYTES)])
    )
    with tempfile.TemporaryDirectory() as folder, origin:
        yield Attempt(tool, origin, Path(folder))


def nothing(_server: str, _path: str, _count: int) -> Fault | None:
    return None


def is_asking_for_url(path: str) -> bool:
    return path.rstrip("/").endswith(("/downloads/results", "/download-url"))


def of_storage(*script: Fault, then: Fault | None = None) -> Faults:
    """Inject the n-th fault of *script* into the n-th storage request, and *then* into later requests."""

    def faults(server: str, _path: str, count: int) -> Fault | None:
        if server != "storage":
            return None
        return script[count - 1] if count <= len(script) else then

    return faults


def drop(one: Attempt) -> bool:
    one.origin.faults = of_storage("cut")
    one.run()
    return one.is_done


def rerun(one: Attempt) -> bool:
    one.origin.faults = of_storage("cut", then="503")
    failed = one.run() != 0
    one.origin.faults = nothing
    one.run()
    return failed and one.is_done


def killed(one: Attempt, meanwhile: Callable[[], None] = lambda: None) -> bool:
    one.origin.faults = of_storage("stall")
    one.run_and_kill()
    meanwhile()
    one.origin.faults = nothing
    one.run()
    return one.is_done


def changed(one: Attempt) -> bool:
    return killed(one, meanwhile=one.origin.objects[0].change)


def stalled(one: Attempt) -> bool:
    one.origin.faults = of_storage("stall")
    one.run()
    return one.is_done


def expired(one: Attempt) -> bool:
    """Use a signed URL for all tools, and a new signed URL for the second run."""
    one.origin.faults = of_storage("expire")
    one.url = one.origin.url_of(0)
    if one.run() != 0:
        one.url = one.origin.url_of(0)
        one.run()
    return one.is_done


def throttled(one: Attempt) -> bool:
    """Pass only if the tool also waited as long as requested."""
    one.origin.faults = of_storage("429:2")
    one.run()
    at_s = [request.at_s for request in one.requests_to("storage")]
    return one.is_done and at_s[1] - at_s[0] >= 1.9


def unavailable(one: Attempt) -> bool:
    one.origin.faults = of_storage("503")
    one.run()
    return one.is_done


def unauthorized(one: Attempt) -> bool | None:
    """Reject a valid token once. Return None for tools without an API client."""
    if not one.tool.asks_api:
        return None
    one.origin.faults = lambda _server, path, count: "401" if is_asking_for_url(path) and count == 1 else None
    one.run()
    return one.is_done


def stranger(one: Attempt) -> bool:
    """Redirect the API and the storage to another host, which must not receive the token."""
    one.header = CANARY

    def faults(server: str, path: str, _count: int) -> Fault | None:
        is_for_archive = server == "storage" or (server == "api" and is_asking_for_url(path))
        return "redirect" if is_for_archive else None

    one.origin.faults = faults
    one.run()
    seen = one.requests_to("stranger")
    others = seen + (one.requests_to("storage") if one.tool.asks_api else [])
    return bool(seen) and not any("Authorization" in request.headers for request in others)


def truncated(one: Attempt) -> bool:
    """Pass only if the tool fails and does not create the final file."""
    one.origin.faults = of_storage(then="cut:0")
    one.run()
    return one.exits[-1] != 0 and one.is_honest


def error_page(one: Attempt) -> bool:
    """Pass also if the tool fails and does not create the final file."""
    one.origin.faults = of_storage("xml")
    one.run()
    return one.is_honest


FAULTS: Mapping[str, Callable[[Attempt], bool | None]] = {
    "drop mid-body, same run": drop,
    "run fails, plain rerun": rerun,
    "kill -9 half way, rerun": killed,
    "object changed (same size) between runs": changed,
    "body stalls half way": stalled,
    "signed URL expires half way": expired,
    "429 `Retry-After: 2`": throttled,
    "503 once": unavailable,
    "401 by the API for a good token": unauthorized,
    "no Authorization to another host on a redirect": stranger,
    "every body cut off": truncated,
    "XML error page with status 200": error_page,
}
