"""
The real Dockerfile, built once with the Makefile's own target, and containers of it that are always removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".venv-image" / "bin"
IMAGE = "localhost/bulkdl:test"
CANARY = f"# canary-{uuid.uuid4().hex}"
# What a cluster's restricted profile asks for, and a root file system without a writable corner.
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
        """``run`` and all that follows it, for one locked-down container with one volume."""
        name = f"bulkdl-test-{uuid.uuid4().hex[:8]}"
        self._names.append(name)
        # podman alone would mount a tmpfs over /tmp, /run and /var/tmp.
        strict = ["--read-only-tmpfs=false"] if self.name == "podman" else []
        variables = [f"--env={key}={value}" for key, value in (env or {}).items()]
        return ["run", f"--name={name}", *RESTRICTED, *strict, f"--volume={volume}:/data", *variables, *args]

    def run(self, volume: str, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self(*self.arguments(volume, IMAGE, *args, **more), check=False)

    def clear(self) -> None:
        for name in self._names:
            self("rm", "--force", name, check=False)
        self._names.clear()


def pip_conf(path: Path, certificates: Path | None) -> Path:
    """This machine's index, as pip is told of it here, for the pip inside the build."""
    told = called("python3", "-m", "pip", "config", "list").stdout.splitlines()
    settings = dict(line.partition("=")[::2] for line in told if "=" in line)
    lines = ["[global]", CANARY]
    for key in ("index-url", "proxy", "trusted-host", "timeout"):
        value = settings.get(f":env:.{key}") or settings.get(f"global.{key}")
        if value:
            lines.append(f"{key} = {value.strip(chr(39))}")
    if certificates:
        lines.append("cert = /run/secrets/ca-bundle")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine, with the image built by ``make image``."""
    for name in ("ENGINE", "BASE"):
        if name not in os.environ:
            pytest.exit(f"{name} is not set; start these tests with tests/image/run", returncode=2)
    made = Engine(os.environ["ENGINE"], os.environ["BASE"])
    certificates = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    certificates = certificates if certificates.is_file() else None
    flags = f"--build-arg BASE={made.base}"
    flags += (
        f" --secret id=pip-conf,src={pip_conf(tmp_path_factory.mktemp('pip') / 'pip.conf', certificates)}"
    )
    if certificates:
        flags += f" --secret id=ca-bundle,src={certificates}"
    # The secrets are new with each session, the layers need not be: what pip fetched is proven by hash.
    done = called("make", "image", f"ENGINE={made.name}", f"IMAGE={IMAGE}", f"BUILD_FLAGS={flags}")
    made.build_log = done.stdout + done.stderr
    yield made
    made.clear()


@pytest.fixture
def containers(engine: Engine) -> Iterator[Engine]:
    yield engine
    engine.clear()


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    """A new named volume, which has its owner from the image."""
    name = f"bulkdl-test-{uuid.uuid4().hex[:8]}"
    engine("volume", "create", name)
    yield name
    engine.clear()
    engine("volume", "rm", "--force", name)
