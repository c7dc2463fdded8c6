"""
Start ``python -m bulkdl`` by a fork of a process that has already imported the package.

Importing the package takes most of the time of a short command, and the tests start hundreds of commands.
``install`` replaces the start of a process in ``subprocess.Popen``, which asyncio uses, too. The new process
is a child of the test process with its own PID, arguments, environment, working directory and standard
streams. Other programs, and calls with unusual options, are executed as before. The variable
BULKDL_TEST_FORK=0 disables the replacement.
"""

import array
import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("fork_server_main.py")
_PR_SET_CHILD_SUBREAPER = 36
_LENGTH = struct.Struct("!I")
_PID = struct.Struct("!i")
# Each server holds the imported package in memory. The server that was not used for the longest time ends.
_MAX_SERVERS = 4
# The interpreter reads these variables when it starts, and aiohttp the certificates when it is imported, so a
# server exists for each combination.
_START_VARIABLES = ("PYTHON", "LC_", "LANG", "MALLOC_", "LD_", "TZ", "SSL_CERT_")

_Server = tuple[socket.socket, "subprocess.Popen[bytes]"]
_servers: dict[tuple[str, ...], _Server] = {}  # in the order of their last use
_execute_child = subprocess.Popen._execute_child  # type: ignore[attr-defined]


def install() -> None:
    """Replace the start of ``python -m bulkdl`` in this process."""
    if os.environ.get("BULKDL_TEST_FORK") != "0":
        subprocess.Popen._execute_child = _start  # type: ignore[attr-defined]


def _start(
    popen: "subprocess.Popen[bytes]",
    args: Any,
    executable: Any,
    preexec_fn: Any,
    close_fds: bool,
    pass_fds: Any,
    cwd: Any,
    env: Any,
    startupinfo: Any,
    creationflags: Any,
    shell: Any,
    *handles_and_options: Any,
) -> None:
    """Start the process of *popen*. The parameters are those of the method of Popen that is replaced."""
    handles, options = handles_and_options[:6], handles_and_options[6:]
    is_usual = (
        not (executable or preexec_fn or pass_fds or shell)
        and close_fds
        and options == (True, None, None, None, -1, False, -1)
    )
    server = _server_for(args, env) if is_usual else None
    if server is None:
        _execute_child(
            *(popen, args, executable, preexec_fn, close_fds, pass_fds, cwd, env),
            *(startupinfo, creationflags, shell, *handles_and_options),
        )
        return
    words = [os.fspath(word) for word in args]
    request = {
        "arguments": words[words.index("bulkdl") + 1 :],
        "environment": dict(os.environ if env is None else env),
        "folder": os.fspath(cwd) if cwd is not None else str(Path.cwd()),
    }
    p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = handles
    streams = [0 if p2cread == -1 else p2cread, 1 if c2pwrite == -1 else c2pwrite]
    streams.append(2 if errwrite == -1 else errwrite)
    popen.pid = _request_process(server, request, streams)
    popen._child_created = True  # type: ignore[attr-defined]
    devnull = getattr(popen, "_devnull", None)
    for theirs, ours in ((p2cread, p2cwrite), (c2pwrite, c2pread), (errwrite, errread)):
        if ours != -1:  # a pipe; another file belongs to the caller
            os.close(theirs)
    if devnull is not None:
        os.close(devnull)
    popen._closed_child_pipe_fds = True  # type: ignore[attr-defined]


def _request_process(server: socket.socket, request: dict[str, Any], streams: list[int]) -> int:
    data = json.dumps(request).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", streams))]
    server.sendmsg([_LENGTH.pack(len(data))], rights)
    server.sendall(data)
    reply = server.recv(_PID.size, socket.MSG_WAITALL)
    (pid,) = _PID.unpack(reply)
    return int(pid)


def _server_for(args: Any, env: Any) -> socket.socket | None:
    """Return the connection to the server of this command; None if it must be executed."""
    if not isinstance(args, list | tuple):
        return None
    words = [os.fspath(word) for word in args]
    if words[0] != sys.executable or "bulkdl" not in words:
        return None
    flags = words[1 : words.index("bulkdl")]
    if flags not in (["-m"], ["-W", "error", "-m"]) or not all(isinstance(word, str) for word in words):
        return None
    variables = os.environ if env is None else env
    start = sorted(
        f"{name}={value}" for name, value in variables.items() if name.startswith(_START_VARIABLES)
    )
    key = (*flags, *start)
    server = _servers.pop(key, None)
    if server is None:
        if len(_servers) == _MAX_SERVERS:
            _end_server(*_servers.pop(next(iter(_servers))))
        server = _start_server(flags[:-1], dict(variables))
    _servers[key] = server
    return server[0]


def _end_server(connection: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    connection.close()
    process.wait()


def _start_server(flags: list[str], env: dict[str, str]) -> _Server:
    # The server forks twice. The orphan then becomes a child of this process, which can wait for it.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, *flags, str(_SCRIPT), str(theirs.fileno())]
        process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    return ours, process
