"""Run containers for the tests of the image."""

from __future__ import annotations

import json
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".venv-image" / "bin"
IMAGE = "localhost/bulkdl:test"
CANARY = f"# canary-{uuid.uuid4().hex}"
# The restricted profile of a cluster, with a read-only root file system.
RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")


def called(*command: str | Path, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, **more)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


@dataclass
class Engine:
    name: str
    base: str
    build_log: str = ""
    _names: list[str] = field(default_factory=list)

    def __call__(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return called(self.name, *args, check=check)

    def inspect(self, image: str) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self("image", "inspect", image).stdout)[0]
        return facts

    def arguments(self, volume: str, *args: str, env: dict[str, str] | None = None) -> list[str]:
        """Return the arguments from ``run`` on for one restricted container with one volume."""
        name = f"bulkdl-test-{uuid.uuid4().hex[:8]}"
        self._names.append(name)
        # Without this option, podman mounts a tmpfs over /tmp, /run and /var/tmp.
        strict = ["--read-only-tmpfs=false"] if self.name == "podman" else []
        variables = [f"--env={key}={value}" for key, value in (env or {}).items()]
        return ["run", f"--name={name}", *RESTRICTED, *strict, f"--volume={volume}:/data", *variables, *args]

    def run(self, volume: str, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self(*self.arguments(volume, IMAGE, *args, **more), check=False)

    def clear(self) -> None:
        for name in self._names:
            self("rm", "--force", name, check=False)
        self._names.clear()
