"""
A clock for tests of timeouts: time passes only while all work waits for a timer.

A delay of an hour takes no time, and a slow machine does not cause a timeout. The client and the server of
the test must run in one event loop, because other processes do not use this clock.
"""

import asyncio
import selectors
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from bulkdl.http.rate_limit import Cooldown, RateLimiter

# On a busy machine the kernel can deliver data over loopback with a delay.
_GRACE_S = 0.005


class VirtualClock(selectors.BaseSelector):
    """
    Selector that moves the clock to the next timer when there is nothing else to do.

    Work in a thread pool, and data in a socket, count as work.
    """

    def __init__(self, selector: selectors.BaseSelector, loop: asyncio.AbstractEventLoop) -> None:
        self._selector = selector
        self._loop = loop
        self._now_s = time.monotonic()
        self._running: set[Future[Any]] = set()

    def monotonic(self) -> float:
        return self._now_s

    def note_submitted(self, future: Future[Any]) -> None:
        """Count *future* as work until it is done and its waiter is notified."""
        self._running.add(future)
        # asyncio adds its own callback first, which notifies the waiter.
        self._loop.call_soon_threadsafe(future.add_done_callback, self._running.discard)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._selector.select(0)
        while not (events := self._selector.select(_GRACE_S)):
            if timeout is not None and not self._running:
                self._now_s += timeout
                return []
        return events

    def register(self, *args: Any) -> selectors.SelectorKey:
        return self._selector.register(*args)

    def unregister(self, *args: Any) -> selectors.SelectorKey:
        return self._selector.unregister(*args)

    def modify(self, *args: Any) -> selectors.SelectorKey:
        return self._selector.modify(*args)

    def get_map(self) -> Any:
        return self._selector.get_map()

    def close(self) -> None:
        self._selector.close()


def use_virtual_clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """Let the running event loop and the modules of bulkdl use a virtual clock until the end of the test."""
    loop: Any = asyncio.get_running_loop()
    clock = VirtualClock(loop._selector, loop)
    submit = ThreadPoolExecutor.submit

    def submit_and_note(*args: Any, **kwargs: Any) -> Future[Any]:
        future = submit(*args, **kwargs)
        clock.note_submitted(future)
        return future

    monkeypatch.setattr(loop, "_selector", clock)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_note)
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    for limit in (Cooldown, RateLimiter):
        monkeypatch.setitem(limit.__init__.__kwdefaults__, "clock", clock.monotonic)
    return clock
