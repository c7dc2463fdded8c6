"""Start SeaweedFS, a real object store with the API of S3, on free ports of this machine."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-objectstore" / "bin" / "weed"
WRITER, READER = ("AKIDWRITER", "SECRETWRITER"), ("AKIDREADER", "SECRETREADER")
_GRPC_OFFSET = 10_000  # each port has a second one for gRPC
_START_S = 60


class SeaweedFS:
    """A running server. Buckets are created with ``create_bucket``."""

    def __init__(self, process, filer_port, s3_port):
        self._process = process
        self._filer = f"http://127.0.0.1:{filer_port}"
        self.url = f"http://127.0.0.1:{s3_port}"

    def create_bucket(self, name):
        request = urllib.request.Request(f"{self._filer}/buckets/{name}/", method="POST")  # noqa: S310 - http
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 - http

    def env(self, key=WRITER):
        """Return the variables of a client."""
        return {
            "AWS_ACCESS_KEY_ID": key[0],
            "AWS_SECRET_ACCESS_KEY": key[1],
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def is_ready(self):
        assert self._process.poll() is None, "SeaweedFS has exited"
        with suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/healthz", timeout=5).status == 200  # noqa: S310 - http
        return False


@contextmanager
def run_seaweedfs(folder):
    """Yield a server whose data is in *folder*."""
    users = [
        {
            "name": name,
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": actions,
        }
        for name, (key, secret), actions in (
            ("writer", WRITER, ["Admin", "Read", "Write", "List", "Tagging"]),
            ("reader", READER, ["Read", "List"]),
        )
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": users}))
    data = folder / "data"
    data.mkdir()
    master, volume, filer, s3 = find_free_ports(4)
    command = [
        *(str(PROGRAM), "-v=0", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}"),
        *("-master.telemetry=false", f"-master.port={master}", "-master.volumeSizeLimitMB=256"),
        *("-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"),
        *(f"-volume.port={volume}", "-volume.max=40", "-volume.preStopSeconds=0"),
        *("-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", f"-s3.config={folder / 's3.json'}"),
        *("-s3.iam=false", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        server = SeaweedFS(process, filer, s3)
        deadline = time.monotonic() + _START_S
        while not server.is_ready():
            assert time.monotonic() < deadline, (folder / "weed.log").read_text()[-3000:]
            time.sleep(0.1)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # an orderly stop takes seconds
        process.wait()


def find_free_ports(count):
    """Return ports that are free, and whose ports for gRPC are free."""
    found = []
    with ExitStack() as stack:
        # Processes that search at the same time must not find the same ports.
        for port in range(21_000 + secrets.randbelow(10_000), 32_000):
            with suppress(OSError):
                for number in (port, port + _GRPC_OFFSET):
                    listening = stack.enter_context(socket.socket())
                    listening.bind(("127.0.0.1", number))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")
