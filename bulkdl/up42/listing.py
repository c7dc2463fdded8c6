"""
A list of jobs from its pages: one page ahead, a job that shifts to the next page once, and an end even
if the server gives none.

While jobs are created or deleted the pages shift, so a job can turn up twice. UP42 tells no total
and no last page: the end is an empty one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable

from bulkdl.log import get_logger
from bulkdl.model import Job
from bulkdl.up42.decode import UnreadableJob

_log = get_logger(__name__)

Page = list[Job | UnreadableJob]

# A list that brings nothing new for so many pages in a row repeats itself.
STALE_PAGES = 3
# A hundred pages.
REMEMBERED_JOBS = 10_000


class Seen:
    """
    What has been listed lately, and what was listed first.

    Pages shift by what is created or deleted meanwhile, so a job turns up again on the next page or the
    one after it; who remembers more than that grows with the list. The first pages are remembered for
    good: by them a list is known that begins again after its end, however long it is.
    """

    def __init__(self, most: int = REMEMBERED_JOBS) -> None:
        self._most = most
        self._keys: set[tuple[bool, str]] = set()
        self._order: deque[tuple[bool, str]] = deque()

    def add(self, entry: Job | UnreadableJob, *, for_good: bool = False) -> bool:
        """Note *entry*; return whether it is new."""
        key = _key_of(entry)
        if key in self._keys:
            return False
        self._keys.add(key)
        if for_good:
            return True
        self._order.append(key)
        if len(self._order) > self._most:
            self._keys.discard(self._order.popleft())
        return True


def _key_of(entry: Job | UnreadableJob) -> tuple[bool, str]:
    """A job that turns out readable elsewhere must not be held for listed."""
    if isinstance(entry, UnreadableJob):
        return False, entry.job_id or entry.problem
    return True, entry.id


async def listed(
    page: Callable[[int], Awaitable[Page]], project_id: str
) -> AsyncGenerator[Job | UnreadableJob, None]:
    """Give out what is on the pages, until an empty one."""
    seen, number, stale = Seen(), 0, 0
    ahead = _request(page, number, project_id)
    try:
        while entries := await ahead:
            number += 1
            ahead = _request(page, number, project_id)
            new = [entry for entry in entries if seen.add(entry, for_good=number <= STALE_PAGES)]
            stale = 0 if new else stale + 1
            if stale == STALE_PAGES:
                _log.warning("jobs.repeated", project_id=project_id, pages=number)
                return
            for entry in new:
                if isinstance(entry, UnreadableJob):
                    _log.warning(
                        "job.unreadable", project_id=project_id, job_id=entry.job_id, problem=entry.problem
                    )
                yield entry
    finally:
        # Nobody may wait for it any more; what it says then is of no interest.
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)


def _request(page: Callable[[int], Awaitable[Page]], number: int, project_id: str) -> asyncio.Task[Page]:
    async def requested() -> Page:
        return await page(number)

    return asyncio.create_task(requested(), name=f"page {number} of {project_id}")
