"""Drive Firefox over its Marionette protocol, which needs no driver program."""

import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_START_TIMEOUT_S = 60
_COMMAND_TIMEOUT_S = 60
_POLL_S = 0.05
_OWN_SERVICE = re.compile(r"^[A-Z]+ (?:http://)?[\w.-]+\.(?:mozilla|firefox)\.(?:com|net|org)[:/ ]")
# With the recommended preferences of Marionette, a page from the disk could read other files.
_PREFERENCES: dict[str, object] = {
    "remote.prefs.recommended": False,
    "marionette.port": 0,
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutConfig.showWarning": False,
    "browser.newtabpage.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.search.update": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.systemAddon.update.enabled": False,
    "extensions.update.enabled": False,
    "geo.provider.testing": True,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "startup.homepage_welcome_url": "about:blank",
    "toolkit.telemetry.enabled": False,
}


class FirefoxPage:
    """One tab of Firefox."""

    def __init__(self, connection: socket.socket, proxy: "RecordingProxy") -> None:
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._count = 0
        self._proxy = proxy
        self._receive()  # the greeting
        self.command("WebDriver:NewSession", strictFileInteractability=True)

    @property
    def requested(self) -> list[str]:
        """The first line of each request that left the browser, without those of Firefox to its services."""
        return [line for line in self._proxy.requests if not _OWN_SERVICE.search(line)]

    def command(self, name: str, **parameters: Any) -> Any:
        """Send one command and return its result."""
        self._count += 1
        body = json.dumps([0, self._count, name, parameters])
        self._connection.sendall(f"{len(body.encode())}:{body}".encode())
        _kind, number, error, result = self._receive()
        assert number == self._count
        if error:
            raise RuntimeError(f"{name}: {error['error']}: {error['message']}")
        return result.get("value") if isinstance(result, dict) and "value" in result else result

    def open(self, url: str) -> None:
        self.command("WebDriver:Navigate", url=url)

    def evaluate(self, script: str, *arguments: Any) -> Any:
        """Return the value of the expression *script*, which does not see variables of other scripts."""
        return self.command("WebDriver:ExecuteScript", script=f"return {script}", args=arguments)

    def wait_for(self, script: str, expected: object) -> None:
        """Wait until the expression *script* has the value *expected*."""
        deadline = time.monotonic() + _COMMAND_TIMEOUT_S
        while (found := self.evaluate(script)) != expected:
            if time.monotonic() > deadline:
                raise AssertionError(f"{script}: {found!r}, expected {expected!r}")
            time.sleep(_POLL_S)

    def click(self, selector: str) -> None:
        self.command("WebDriver:ElementClick", id=self._find(selector))

    def type(self, selector: str, text: str) -> None:
        self.command("WebDriver:ElementSendKeys", id=self._find(selector), text=text)

    def _find(self, selector: str) -> str:
        element: dict[str, str] = self.command("WebDriver:FindElement", using="css selector", value=selector)
        return next(iter(element.values()))

    def _receive(self) -> Any:
        length = b""
        while (byte := self._stream.read(1)) != b":":
            if not byte:
                raise ConnectionError("Firefox closed the connection")
            length += byte
        return json.loads(self._stream.read(int(length)))


class RecordingProxy:
    """A proxy that records requests and refuses them."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(4096).split(b"\r\n")[0].decode("ascii", "replace"))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._listener.close()


@contextmanager
def start_firefox(program: str, width: int = 1180, height: int = 1000) -> Iterator[FirefoxPage]:
    """Start Firefox without a window. All its requests go to a proxy that refuses them."""
    proxy = RecordingProxy()
    preferences = _PREFERENCES | {
        "network.proxy.type": 1,
        "network.proxy.http": "127.0.0.1",
        "network.proxy.http_port": proxy.port,
        "network.proxy.ssl": "127.0.0.1",
        "network.proxy.ssl_port": proxy.port,
        "network.proxy.allow_hijacking_localhost": True,
    }
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in preferences.items()]
    with tempfile.TemporaryDirectory(prefix="firefox-") as profile:
        Path(profile, "user.js").write_text("\n".join(lines))
        command = [program, "--headless", "--marionette", "--no-remote", "--profile", profile]
        command += ["--width", str(width), "--height", str(height), "about:blank"]
        environment = {**os.environ, "HOME": profile, "MOZ_CRASHREPORTER_DISABLE": "1"}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                with _connect(Path(profile, "MarionetteActivePort"), process) as connection:
                    yield FirefoxPage(connection, proxy)
            finally:
                process.terminate()
                process.wait(_START_TIMEOUT_S)
                proxy.close()


def _connect(port_file: Path, process: "subprocess.Popen[bytes]") -> socket.socket:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        port = port_file.read_text().strip() if port_file.exists() else ""
        if port:
            connection = socket.create_connection(("127.0.0.1", int(port)))
            connection.settimeout(_COMMAND_TIMEOUT_S)
            return connection
        time.sleep(_POLL_S)
    raise RuntimeError(f"Firefox did not start (exit status {process.poll()})")
