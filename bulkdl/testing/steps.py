"""Drive calls step by step, to cancel or kill them at every point at which they wait."""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")

_MAX_STEPS = 400


def check(condition: object, problem: str) -> None:
    """Raise AssertionError with *problem* unless *condition* is true."""
    if not condition:
        raise AssertionError(problem)


class Steps:
    """Drives a coroutine, and calls *action* when it waits for the *number*-th time."""

    def __init__(self, work: Coroutine[Any, Any, T], number: int, action: Callable[[], object]) -> None:
        self._work = work
        self._number = number
        self._action = action
        self.count = 0

    @types.coroutine
    def run(self) -> Generator[Any, None, Any]:
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._work.send(None) if error is None else self._work.throw(error)
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.count == self._number:
                self._action()
            error = None
            try:
                yield waits_for
            except BaseException as raised:  # noqa: BLE001 - passed on to the coroutine
                error = raised


async def cancel_at_each_step(
    call: Callable[[], Coroutine[Any, Any, object]], after: Callable[[], Awaitable[None] | None]
) -> None:
    """
    Cancel one call after another, each at a later step, until a call ends before its step.

    Args:
        after: Called after each call.
    """
    for number in range(1, _MAX_STEPS):
        task: asyncio.Task[object] | None = None
        steps = Steps(call(), number, lambda: task.cancel() if task else None)  # noqa: B023 - used at once
        task = asyncio.ensure_future(steps.run())
        with suppress(asyncio.CancelledError):
            await task
        if (waits := after()) is not None:
            await waits
        if steps.count < number:
            return
        check(task.cancelled(), "the call ignored its cancellation")


class Killed(BaseException):
    """The simulated end of the process."""


class _Process:
    """Counts the steps of a simulated process, which can do nothing more after its end."""

    def __init__(self, killed_at: int) -> None:
        self.steps = 0
        self._killed_at = killed_at

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps >= self._killed_at:
                raise Killed
            return function(*args, **kwargs)

        return step


@contextmanager
def kill_at(number: int, steps: Sequence[tuple[Any, str]]) -> Iterator[_Process]:
    """End the process inside the block before its *number*-th step."""
    process = _Process(number)
    originals = [(owner, name, inspect.getattr_static(owner, name)) for owner, name in steps]
    for owner, name, function in originals:
        wrapped = process.wrap(getattr(owner, name))
        setattr(owner, name, staticmethod(wrapped) if isinstance(function, staticmethod) else wrapped)
    try:
        yield process
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)
