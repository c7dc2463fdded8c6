"""
A second implementation of UP42's API of jobs and of its storage: standard library, threads, HTTP/1.1.

It shares no code with ``bulkdl.simulator``, so that both cannot contain the same error. Job pages have seven
jobs and shift, tokens are valid for one second, URLs for thirty seconds, and headers differ per object.

A fault is a word, optionally with a value after a colon. For any request: a status (``401``, ``429:2`` with
Retry-After), ``xml`` (an error page with status 200), ``drop`` (no response), ``redirect`` (to another host).
For an object: ``cut:0.9`` (this share of the body, then the end), ``stall``, ``pause``, ``expire`` (cut, and
expire all URLs signed so far), ``expired`` (for one request), ``changed``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

from robustness.stored_objects import StoredArchive, png

PAGE = 7
PARTIAL = ("cut", "stall", "pause", "expire")
UNAUTHORIZED = b'{"error":{"code":"UNAUTHORIZED","message":"JWT expired"},"data":null}'
Fault = str


@dataclass
class RecordedRequest:
    """
    One request and the body bytes that were sent for it.

    Attributes:
        begin: Offset of the sent bytes in their object. None if no object was sent.
    """

    server: str
    path: str
    headers: dict[str, str]
    fault: Fault | None = None
    sent_bytes: int = 0
    begin: int | None = None
    at_s: float = field(default_factory=time.monotonic)


def identity(*numbers: int) -> str:
    number = int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:16], "big")
    return str(UUID(int=number, version=4))


class Origin:
    """
    Context manager that runs both servers on free ports.

    Args:
        tls: API and storage use TLS with it. Another host does not.

    Attributes:
        faults: Returns the fault of the n-th request for a path: ``faults(server, path, n)``, or None.
        requests: All requests.
    """

    project = identity(0)
    key = "ABCDEFGH.0123456789abcdefghijklmnopqrstuvwxyz"

    def __init__(
        self,
        objects: list[StoredArchive],
        *,
        token_lifetime_s: float = 300.0,
        url_lifetime_s: int = 30,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.objects, self.tls = objects, tls
        self.token_lifetime_s, self.url_lifetime_s = token_lifetime_s, url_lifetime_s
        self.faults: Callable[[str, str, int], Fault | None] = lambda _server, _path, _count: None
        self.requests: list[RecordedRequest] = []
        self.secrets = [random.Random(1).randbytes(16)]
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self.api = self._server("api")
        self.storage = self._server("storage")
        self.stranger = self._server("stranger")

    def _server(self, name: str) -> ThreadingHTTPServer:
        handler = type(f"{name}Handler", (self.handler_type(),), {"origin": self, "server_name_here": name})
        return _Server(("127.0.0.1", 0), handler)

    def __enter__(self) -> Self:
        for server in (self.api, self.storage, self.stranger):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for server in (self.api, self.storage, self.stranger):
            server.shutdown()
            server.server_close()

    @property
    def api_url(self) -> str:
        return (
            f"https://localhost:{self.api.server_port}"
            if self.tls
            else f"http://127.0.0.1:{self.api.server_port}"
        )

    def url_of(self, number: int) -> str:
        """Return a signed URL."""
        expires = int(time.time()) + self.url_lifetime_s
        signed = self.sign(self.path_of(number), expires, self.secrets[-1])
        return f"{'https' if self.tls else 'http'}://localhost:{self.storage.server_port}/{signed}"

    def plain_url(self, number: int) -> str:
        """Return a URL without a signature."""
        return f"http://127.0.0.1:{self.storage.server_port}/plain/{number}/output.tgz"

    def handler_type(self) -> type[Handler]:
        return Handler

    def path_of(self, number: int) -> str:
        """Return the path of an object at the storage."""
        return f"/bucket/{number}/output.tgz"

    def find_object(self, path: str) -> StoredArchive | None:
        """Return the object with *path*, or None for the path of another resource."""
        steps = path.split("/")
        return self.objects[int(steps[2])] if steps[-1] == "output.tgz" else None

    def expire(self) -> None:
        """Expire all URLs signed so far."""
        self.secrets.append(hashlib.sha256(self.secrets[-1]).digest())

    def sign(self, path: str, expires: int, secret: bytes) -> str:
        mark = hashlib.blake2b(f"{path}{expires}".encode(), key=secret, digest_size=24).digest()
        signature = quote(base64.b64encode(mark).decode(), safe="")
        return f"{path[1:]}?GoogleAccessId=robot@example.iam&Expires={expires}&Signature={signature}"

    def record(self, server: str, path: str, headers: dict[str, str]) -> tuple[RecordedRequest, Fault | None]:
        with self._lock:
            self._counts[f"{server} {path}"] += 1
            fault = self.faults(server, path, self._counts[f"{server} {path}"])
            self.requests.append(RecordedRequest(server, path, headers, fault))
            return self.requests[-1], fault

    def forget(self) -> None:
        """Reset the counters."""
        with self._lock:
            self.requests.clear()
            self._counts.clear()

    def sent_bytes(self) -> int:
        """Return the body bytes of objects sent by both servers."""
        return sum(request.sent_bytes for request in self.requests if self.find_object(request.path))

    def wait(self, seconds: float) -> None:
        """Wait for *seconds*, or until the server stops."""
        self._ending.wait(seconds)

    def about_project(self) -> dict[str, Any]:
        created = "2021-03-01T10:00:00.123456Z"
        return {"id": self.project, "name": "hostile", "description": None, "createdAt": created}

    def job(self, number: int) -> dict[str, Any]:
        return {
            "id": identity(1, number),
            "status": "SUCCEEDED",
            "mode": "DEFAULT",
            "name": None,
            "createdAt": f"2021-03-{1 + number:02d}T10:00:00.123456Z",
            "startedAt": f"2021-03-{1 + number:02d}T10:00:01Z",
            "finishedAt": f"2021-03-{1 + number:02d}T11:00:00Z",
            "inputs": {},
            "workflowId": identity(9),
            "workflowName": None,
        }

    def page(self, number: int) -> list[dict[str, Any]]:
        """Return a page. From the second page on, pages shift by one, as if jobs were created and deleted."""
        begin = max(0, number * PAGE - number)
        return [self.job(one) for one in range(begin, min(begin + PAGE, len(self.objects)))]

    def number_of(self, job_id: str) -> int | None:
        ids = [identity(1, number) for number in range(len(self.objects))]
        return ids.index(job_id) if job_id in ids else None

    def geojson(self, number: int) -> bytes:
        return json.dumps({"type": "FeatureCollection", "features": [], "number": number}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """Ignore errors, because clients are expected to disconnect."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(*args)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin: Origin
    server_name_here: str

    def setup(self) -> None:
        """Start TLS. A request without TLS is recorded with its own name of the server."""
        if self.origin.tls is not None and self.server_name_here != "stranger":
            if self.request.recv(1, socket.MSG_PEEK) == b"\x16":  # the first byte of a handshake
                self.request = self.origin.tls.wrap_socket(self.request, server_side=True)
            else:
                self.server_name_here = f"plain {self.server_name_here}"
        super().setup()

    def finish(self) -> None:
        super().finish()
        if self.origin.tls is not None:  # the server closes only the socket that TLS replaced
            self.request.close()

    def log_message(self, *args: object) -> None:
        """Do not log."""

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.recorded, fault = self.origin.record(self.server_name_here, parts.path, dict(self.headers))
        try:
            if not self._met(fault):
                self._answer(parts.path, parse_qs(parts.query), fault)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _met(self, fault: Fault | None) -> bool:
        """Apply the faults that do not need an object."""
        kind, _, value = (fault or "").partition(":")
        if kind == "429":
            self._say(429, b'{"error":{"code":429,"message":"slow down"}}', [("Retry-After", value or "1")])
        elif kind == "401":
            self._say(401, UNAUTHORIZED)
        elif kind == "503":
            self._say(503, b"<html>gateway</html>", [("Content-Type", "text/html")])
        elif kind == "xml":
            body = b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>" + b" " * 2000
            self._say(200, body, [("Content-Type", "application/octet-stream")])
        elif kind == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "redirect":
            path = urlsplit(self.path).path
            status = 307 if self.command == "POST" else 302  # a 302 turns a POST request into a GET request
            location = f"http://localhost:{self.origin.stranger.server_port}{path}"
            self._say(status, b"", [("Location", location)])
        else:
            return False
        return True

    def _answer(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        steps = path.strip("/").split("/")
        if self.server_name_here == "storage":
            self._storage(path, query, fault)
        elif stored := self.origin.find_object(path):
            self._stored(stored, fault)
        elif path == "/oauth/token":
            self._token()
        elif self.server_name_here == "api" and not self._may():
            self._say(401, UNAUTHORIZED)
        elif path == "/users/me":
            self._json({"data": {"id": identity(8)}, "error": None})
        else:
            self._api(steps[2:], query)

    def _token(self) -> None:
        basic = base64.b64encode(f"{self.origin.project}:{self.origin.key}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {basic}":
            self._say(401, b"")
            return
        token = f"opaque-{time.time() + self.origin.token_lifetime_s:.6f}"
        self._json(
            {"access_token": token, "token_type": "bearer", "expires_in": self.origin.token_lifetime_s}
        )

    def _may(self) -> bool:
        word, _, end = self.headers.get("Authorization", "").partition("opaque-")
        return word == "Bearer " and float(end) > time.time()

    def _api(self, steps: list[str], query: dict[str, list[str]]) -> None:  # noqa: C901 - a table
        if not steps:
            self._json({"data": self.origin.about_project(), "error": None})
            return
        if steps == ["jobs"]:
            self._json({"data": self.origin.page(int(query.get("page", ["0"])[0])), "error": {}})
            return
        number = self.origin.number_of(steps[1]) if len(steps) > 1 else None
        if number is None:
            self._say(404, b'{"error":"Not found!"}')
            return
        match steps[2:]:
            case []:
                self._json({"data": self.origin.job(number), "error": None})
            case ["tasks"]:
                task = {
                    "id": identity(2, number),
                    "name": "data:1",
                    "status": "SUCCEEDED",
                    "parentsIds": None,
                }
                self._json({"data": [task]})
            case [*_, "downloads", "results"]:
                self._json({"error": None, "data": {"url": self.origin.url_of(number)}})
            case [*_, "outputs", "data-json"]:
                self._say(200, self.origin.geojson(number), [("Content-Type", "application/json")])
            case [*_, "outputs", "quicklooks"]:
                self._json({"data": [f"{number}.png"]})
            case [*_, "outputs", "quicklooks", _]:
                self._say(200, png(number), [("Content-Type", "image/jpg")])
            case _:
                self._say(404, b"")

    def _storage(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        refusal = "" if path.startswith("/plain/") else self._refusal(path, query)
        if refusal or fault == "expired":
            code = refusal or "ExpiredToken"
            status = 400 if code == "ExpiredToken" else 403
            self._say(status, f"<Error><Code>{code}</Code></Error>".encode())
            return
        stored = self.origin.find_object(path)
        assert stored is not None
        if fault == "changed":
            stored.change()
        self._stored(stored, fault)

    def _refusal(self, path: str, query: dict[str, list[str]]) -> str:
        """Return the error of a signed URL."""
        expires = int(query.get("Expires", ["0"])[0])
        *before, now = (self.origin.sign(path, expires, secret) for secret in self.origin.secrets)
        if self.path[1:] in before or (self.path[1:] == now and expires < time.time()):
            return "ExpiredToken"
        return "" if self.path[1:] == now else "SignatureDoesNotMatch"

    def _stored(self, stored: StoredArchive, fault: Fault | None) -> None:
        expected, size = self.headers.get("Range"), len(stored.body)
        begin, end, status = 0, size, 200
        if expected and stored.is_same(self.headers.get("If-Range")):
            first, _, last = expected.removeprefix("bytes=").partition("-")
            begin, end, status = int(first), min(size, int(last) + 1 if last else size), 206
        if begin >= size:
            self._say(416, b"", [("Content-Range", f"bytes */{size}")])
            return
        self.recorded.begin, headers = begin, stored.headers()
        if status == 206:
            headers.append(("Content-Range", f"bytes {begin}-{end - 1}/{size}"))
        self._send(status, stored.body[begin:end], headers, fault, chunked=stored.style == "chunked")

    def _json(self, document: Any) -> None:
        self._say(200, json.dumps(document).encode(), [("Content-Type", "application/json")])

    def _say(self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self._send(status, body, headers or [], None, chunked=False)

    def _send(
        self, status: int, body: bytes, headers: list[tuple[str, str]], fault: Fault | None, *, chunked: bool
    ) -> None:
        kind, _, value = (fault or "").partition(":")
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = int(len(body) * float(value or 0.5)) if kind in PARTIAL else len(body)
        if kind == "expire":
            self.origin.expire()
        self._write(body[:stop], chunked=chunked)
        if kind == "pause":
            self.origin.wait(1.0)
            self._write(body[stop:], chunked=chunked)
        elif kind in PARTIAL:
            self.origin.wait(3600.0 if kind == "stall" else 0.0)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, data: bytes, *, chunked: bool) -> None:
        for at in range(0, len(data), 1 << 16):
            chunk = data[at : at + (1 << 16)]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            self.recorded.sent_bytes += len(chunk)
