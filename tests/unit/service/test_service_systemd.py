"""Test the messages to systemd with a real datagram socket."""

import os
import socket
import time

import pytest

from bulkdl.service.systemd import SystemdNotifier


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    name = f"@bulkdl-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        server.setblocking(False)
        yield server, {"NOTIFY_SOCKET": name}


def test_notifier_sends_each_state(listener):
    server, env = listener
    notifier = SystemdNotifier(env)
    notifier.ready("starting")
    assert server.recv(1000) == b"READY=1\nSTATUS=starting"
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    state, monotonic = server.recv(1000).split(b"\n")
    assert state == b"RELOADING=1"
    assert before_us <= int(monotonic.removeprefix(b"MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    notifier.status("two\nlines")
    assert server.recv(1000) == b"STATUS=two lines"
    notifier.heartbeat()
    assert server.recv(1000) == b"WATCHDOG=1"
    notifier.stopping()
    assert server.recv(1000) == b"STOPPING=1\nSTATUS=stopping"


def test_notifier_without_a_socket_or_listener_sends_nothing(tmp_path):
    for env in ({}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": str(tmp_path / "missing")}):
        notifier = SystemdNotifier({**env, "WATCHDOG_USEC": "bad"})
        notifier.ready("starting")
        assert notifier.watchdog_s is None


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_notifier_reads_the_interval_of_the_watchdog(env, expected):
    assert SystemdNotifier({"NOTIFY_SOCKET": "/run/x", **env}).watchdog_s == expected
