"""
One heap for all threads.

glibc gives each thread a heap of its own, so that threads that allocate at once do not wait for one
another. Python's take turns anyway, and what one thread has freed stays with it: a table that grows now
in this thread and now in that one leaves a hole of its size in each. Over a million outputs that made
20 MiB (``pathlib`` of Python 3.11 fills such a table: it interns each part of a path).
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # of <malloc.h>


def limit_malloc_arenas() -> None:
    """Have it so; to be called before there are threads. Without glibc it does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
