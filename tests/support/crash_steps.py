"""Kill a process at one of the calls that change the disk, for programs that try each of these steps."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from bulkdl import syscalls


def kill_at(step: int, calls: tuple[str, ...]) -> None:
    """
    Kill this process at the step with this number: before or after one of the calls.

    Args:
        calls: Functions of ``os`` that count as steps. Those of ``bulkdl.syscalls`` count, too.
    """
    count = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count
            for moment in ("before", "after"):
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
                if moment == "before":
                    result = real(*args, **options)
            return result

        return call

    for name in calls:
        setattr(os, name, wrap(getattr(os, name)))
    for name in ("sync_file_system", "exchange_names"):
        setattr(syscalls, name, wrap(getattr(syscalls, name)))


def run_in_child(work: Callable[[], None]) -> int:
    """Run *work* in a child and return its exit code; negative for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
