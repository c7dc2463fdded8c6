"""
Run nginx on free loopback ports (HTTP and HTTPS) with a self-signed certificate for localhost.

nginx also serves the UP42 API: lists are static files and templates in its configuration. The measured
client therefore does not wait for an interpreter.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_STARTED_WITHIN_S = 10.0

_CONFIG = """
daemon off;
{user}
worker_processes {workers};
worker_rlimit_nofile 65536;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  log_format path '$request_method $request_uri';
  access_log {access_log};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 65;
  keepalive_requests 100000;
  default_type application/json;
  types {{ image/jpeg jpg; image/gif gif; application/json json; application/octet-stream tgz; }}
  {maps}
  server {{
    listen 127.0.0.1:{http};
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {folder}/cert.pem;
    ssl_certificate_key {folder}/key.pem;
    root {root};
    {locations}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(slots=True)
class Nginx:
    """
    Context manager that runs nginx.

    Args:
        folder: Directory for configuration, certificate and logs.
        root: Directory to serve.
        locations: Location blocks in nginx syntax.
        maps: Blocks outside the server block.
        logged: Write each request to ``requests.log``.
    """

    folder: Path
    root: Path
    locations: str
    maps: str = ""
    logged: bool = False
    http_port: int = field(default_factory=free_port)
    https_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def https_url(self) -> str:
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def certificate(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def requests_log(self) -> Path:
        return self.folder / "requests.log"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        make_certificate(self.folder)
        config = self.folder / "nginx.conf"
        config.write_text(self._config())
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        command = [binary, "-e", str(self.folder / "error.log"), "-c", str(config), "-p", str(self.folder)]
        self._process = subprocess.Popen(command)  # noqa: S603 - our own configuration
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None  # noqa: S101 - entered before
        self._process.terminate()
        self._process.wait(10)

    def _config(self) -> str:
        access_log = f"{self.requests_log} path buffer=64k flush=1s" if self.logged else "off"
        return _CONFIG.format(
            user="user root;" if os.getuid() == 0 else "",
            workers=os.cpu_count() or 1,
            folder=self.folder,
            access_log=access_log,
            maps=self.maps,
            http=self.http_port,
            https=self.https_port,
            root=self.root,
            locations=self.locations,
        )

    def _wait(self) -> None:
        until_s = time.monotonic() + _STARTED_WITHIN_S
        while time.monotonic() < until_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.http_port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"nginx does not listen: {(self.folder / 'error.log').read_text()[-400:]}")


def make_certificate(folder: Path) -> None:
    if (folder / "cert.pem").exists():
        return
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)  # noqa: S603


def goog_hashes(hashes: Mapping[str, str]) -> str:
    """Return a map from ``<job>-<task>`` to the ``x-goog-hash`` of its archive. ``default`` is optional."""
    lines = "".join(
        f'"{key}" "crc32c={value}";' if key != "default" else f'default "crc32c={value}";'
        for key, value in hashes.items()
    )
    return 'map "$job-$task" $goog_hash { ' + lines + " }"
