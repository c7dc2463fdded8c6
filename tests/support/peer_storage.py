"""Serve the storage to an official client. Runs in the environment of the client, without bulkdl."""

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import requests

PYTHON = os.environ.get("BULKDL_PYTHON", ".venv/bin/python")
USER, PASSWORD = "someone@example.com", "correct horse"
_DOCUMENTS = {"asset.json", "collection.json", "delivery.json", "item.json"}
_REALM = "/realms/public/protocol/openid-connect"


@dataclass(frozen=True)
class ExpectedStorage:
    """
    The files that the client must find.

    Attributes:
        files: Documents of ``print_expected_files.py``.
        foreign: Hrefs on other hosts.
    """

    files: list[dict[str, Any]]
    foreign: list[str]

    @property
    def originals(self) -> dict[str, dict[str, Any]]:
        return {file["asset_id"]: file for file in self.files if file["is_original"]}

    @property
    def checksums(self) -> dict[str, str]:
        """Return the SHA-256 of each file by asset ID."""
        return {file["asset_id"]: file["sha256"] for file in self.files}


@cache
def read_expected_storage() -> ExpectedStorage:
    script = Path(__file__).with_name("print_expected_files.py")
    done = subprocess.run([PYTHON, str(script)], capture_output=True, text=True, check=True)
    return ExpectedStorage(**json.loads(done.stdout))


@contextmanager
def serve_storage(*options: str) -> Iterator[str]:
    """Run ``bulkdl simulate`` with *options* and yield the URL of its API."""
    command = [PYTHON, "-m", "bulkdl", "simulate", "--page-size", "7", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            assert line["account"] == {"username": USER, "password": PASSWORD}
            yield line["api_url"]
        finally:
            process.terminate()
        assert process.wait(10) == 143


def download_with_bulkdl(url: str, out: Path) -> Counter[str]:
    """Download the storage with ``bulkdl run`` and return the SHA-256 of the files, without documents."""
    command = [PYTHON, "-m", "bulkdl", "run", "--source", "storage", "--api-url", url, "-o", str(out)]
    credentials = {"UP42_USERNAME": USER, "UP42_PASSWORD": PASSWORD}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **credentials}
    )
    assert done.returncode == 0, done.stderr
    files = [path for path in out.rglob("*") if path.is_file() and ".bulkdl" not in path.parts]
    return Counter(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.name not in _DOCUMENTS
    )


def import_client() -> None:
    """
    Import the official client without its request for the newest version to the package index.

    Version 4 has a variable for this. In version 2 only an HTTP error prevents the request.
    """
    os.environ["UP42_DISABLE_VERSION_CHECK"] = "true"
    get = requests.get

    def refuse(*_: object, **__: object) -> None:
        raise requests.HTTPError

    requests.get = refuse
    try:
        import up42  # noqa: F401
    finally:
        requests.get = get


def point_client_at(url: str) -> None:
    """Let the official client use *url*. All its modules call the functions of ``up42.host``."""
    import up42.host

    up42.host.endpoint = lambda path: url + path
    up42.host.token_endpoint = lambda: f"{url}{_REALM}/token"
    up42.host.user_info_endpoint = lambda: f"{url}{_REALM}/userinfo"


def log_in(url: str) -> None:
    """Point the official client at *url* and log in."""
    import up42

    point_client_at(url)
    up42.authenticate(username=USER, password=PASSWORD)
