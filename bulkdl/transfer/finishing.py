"""What must not be left half done by whoever is stopped in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


async def shield_until_done(work: Coroutine[Any, Any, None]) -> None:
    """
    Do *work*, which is short; who is cancelled meanwhile, however often, goes only when it is done.

    Its failure is raised only to who has not been cancelled.
    """
    doing = asyncio.ensure_future(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # has been looked at: nothing more is to be said of it
        raise
