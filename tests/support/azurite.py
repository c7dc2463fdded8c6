"""Start Azurite, the emulator of Azure Blob Storage, on a free port of this machine."""

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    ROOT / ".venv-objectstore" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
)
ACCOUNT = "devstoreaccount1"
# The published key of all emulators.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_VERSION = "2021-08-06"
_START_S = 60


class Azurite:
    """A running emulator. Containers are created with ``create_container``."""

    def __init__(self, port):
        self._port = port
        self.url = f"http://127.0.0.1:{port}/{ACCOUNT}"

    def env(self, key=KEY):
        """Return the variables of a client."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": key,
            "AZURE_STORAGE_ENDPOINT": self.url,
        }

    def create_container(self, name):
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        signed = "".join(f"{header}:{text}\n" for header, text in sorted(headers.items()))
        resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        digest = hmac.new(
            base64.b64decode(KEY), f"PUT{chr(10) * 12}{signed}{resource}".encode(), hashlib.sha256
        )
        signature = base64.b64encode(digest.digest()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request(
            "PUT",
            f"/{ACCOUNT}/{name}?restype=container",
            headers={**headers, "Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"},
        )
        response = connection.getresponse()
        assert response.status == 201, response.read()
        connection.close()


@contextmanager
def run_azurite(folder):
    """Yield an emulator whose data is in *folder*."""
    node = shutil.which("node")
    assert node, "Node.js is not installed"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [
        *(node, str(PROGRAM), "--disableTelemetry", "--skipApiVersionCheck", "--silent"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", str(folder)),
    ]
    with (folder / "azurite.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        deadline = time.monotonic() + _START_S
        while not _accepts_connections(port):
            assert process.poll() is None, (folder / "azurite.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "Azurite did not start"
            time.sleep(0.05)
        yield Azurite(port)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def _accepts_connections(port):
    with socket.socket() as connection:
        connection.settimeout(5)
        return connection.connect_ex(("127.0.0.1", port)) == 0
