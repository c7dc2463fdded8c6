"""
Report the state of the service to systemd with the protocol of ``sd_notify`` for units with ``Type=notify``.

A message is one datagram to the Unix socket in ``NOTIFY_SOCKET``. Without this variable, the service sends no
message. A message that cannot be sent is ignored, because the service works without systemd.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

_MIN_WATCHDOG_S = 0.1


class SystemdNotifier:
    """
    Sends the state of the service to systemd.

    Attributes:
        watchdog_s: Time between two heartbeats that systemd expects; None without ``WatchdogSec``.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._address = _parse_address(env.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _read_watchdog_s(env) if self._address else None

    def ready(self, status: str) -> None:
        """Report that the service has started, or that it has reloaded its configuration."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Report the start of a reload. systemd compares its time with that of its signal."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def status(self, status: str) -> None:
        """Report what the service does; ``systemctl status`` shows it."""
        self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """Report that the service ends."""
        self._send("STOPPING=1", "STATUS=stopping")

    def heartbeat(self) -> None:
        """Report that the event loop responds."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(text.encode(), self._address)


def _parse_address(text: str) -> str | None:
    """Return the address of the socket: a path, or with ``@`` an abstract name."""
    if text.startswith("@"):
        return f"\0{text[1:]}"
    return text if text.startswith("/") else None


def _read_watchdog_s(env: Mapping[str, str]) -> float | None:
    """Return half of the time in ``WATCHDOG_USEC``, if it is for this process."""
    text, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return max(int(text) / 2e6, _MIN_WATCHDOG_S)
