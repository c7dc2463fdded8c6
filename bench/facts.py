"""Collect the hardware and the versions that were used for a measurement."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.settings import REPOSITORY, BenchSettings

_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.-]*")
_TOOLS = {"nginx": ("nginx", "-v"), "curl": ("curl", "--version"), "aria2c": ("aria2c", "--version")}
_PACKAGES = ("aiohttp", "google-crc32c", "pydantic", "structlog", "uvloop", "orjson")


def describe_machine(settings: BenchSettings) -> dict[str, str]:
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    found = {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{int(memory.split()[1]) / (1 << 20):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "file system": _file_system(settings.scratch),
        "Python": platform.python_version(),
    }
    for name in ("bulkdl", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return (
        found
        | {name: _tool_version(command) for name, command in _TOOLS.items()}
        | {"up42-py": _peer_version(settings)}
    )


def read_revision() -> str:
    """Return the measured commit, with a plus if the package has uncommitted changes."""
    short = _run_command(["git", "rev-parse", "--short", "HEAD"]).strip() or "?"
    changed = _run_command(["git", "status", "--porcelain", "--", "bulkdl"])
    return short + ("+" if changed else "")


def _run_command(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout + done.stderr


def _tool_version(command: tuple[str, ...]) -> str:
    match = _VERSION.search(_run_command(list(command)))
    return match.group() if match else "not installed"


def _peer_version(settings: BenchSettings) -> str:
    code = "from importlib.metadata import version; print(version('up42-py'))"
    return (
        _run_command([str(settings.peer_python), "-c", code]).strip().splitlines()[-1:][0]
        if (settings.peer_python.exists())
        else "not installed"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def _file_system(folder: Path) -> str:
    best, kind = "", "?"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, name, *_ = line.split()
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, name
    return kind


def interpreter() -> str:
    return sys.executable
