"""
Build the image once with the target of the Makefile, and remove all containers after the tests.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.container_engine import CANARY, IMAGE, Engine, called


def pip_conf(path: Path, certificates: Path | None) -> Path:
    """Return the package index of this machine for pip inside the build."""
    output = called("python3", "-m", "pip", "config", "list").stdout.splitlines()
    settings = dict(line.partition("=")[::2] for line in output if "=" in line)
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
    """Return the engine with the image that ``make image`` built."""
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
    # Every session has new secrets. The layers can be reused, because pip verifies hashes.
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
    """Create a named volume. Its owner comes from the image."""
    name = f"bulkdl-test-{uuid.uuid4().hex[:8]}"
    engine("volume", "create", name)
    yield name
    engine.clear()
    engine("volume", "rm", "--force", name)
