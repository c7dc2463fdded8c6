"""
Fork a process for each request and run ``bulkdl`` in it. The program of ``support.fork_server``.

The process that makes the requests is the parent of the new processes: this server forks twice, and the
orphan is adopted by its nearest ancestor that is a subreaper.
"""

import gc
import importlib
import io
import json
import os
import pkgutil
import random
import runpy
import socket
import struct
import sys
from typing import Any

LENGTH = struct.Struct("!I")
PID = struct.Struct("!i")


def import_package() -> None:
    """Import everything that a command can import, so that all processes share it."""
    for package in ("bulkdl.cli", "bulkdl.graph", "bulkdl.maintenance", "bulkdl.sources", "bulkdl.telemetry"):
        folder = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folder, f"{package}."):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def serve(connection: socket.socket) -> dict[str, Any]:
    """Answer requests. Return in the new process, with the request that it must run."""
    while True:
        head, handles, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
        if not head:
            os._exit(0)
        (size,) = LENGTH.unpack(head)
        request: dict[str, Any] = json.loads(connection.recv(size, socket.MSG_WAITALL))
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            pid = os.fork()
            if pid:
                os.write(writing, PID.pack(pid))
                os._exit(0)
            os.close(reading)
            os.close(writing)
            connection.close()
            request["handles"] = handles
            return request
        os.close(writing)
        os.waitpid(middle, 0)
        connection.sendall(os.read(reading, PID.size))
        os.close(reading)
        for handle in handles:
            os.close(handle)


def become(request: dict[str, Any]) -> None:
    """Take over the standard streams, the environment, the folder and the arguments of *request*."""
    for number, handle in enumerate(request["handles"]):
        os.dup2(handle, number)
    for handle in request["handles"]:
        os.close(handle)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding=encoding)  # type: ignore[type-var]
    for name, number, handler in (("stdout", 1, errors), ("stderr", 2, "backslashreplace")):
        raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
        lines = name == "stderr" or os.isatty(number)
        stream = io.TextIOWrapper(raw, encoding=encoding, errors=handler, line_buffering=lines)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    random.seed()
    sys.argv = ["bulkdl", *request["arguments"]]
    # `python -m` puts the working directory first.
    sys.path[0] = request["folder"]


if __name__ == "__main__":
    import_package()
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
    runpy.run_module("bulkdl", run_name="__main__", alter_sys=True)
