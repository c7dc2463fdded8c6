"""
A list of jobs from its pages: one page ahead, each job once, and an end even if the server gives none.

While jobs are created or deleted the pages shift, so a job can turn up twice. UP42 tells no total
and no last page: the end is an empty one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from uuid import UUID

from bulkdl.log import get_logger
from bulkdl.model import Job
from bulkdl.up42.decode import UnreadableJob

_log = get_logger(__name__)

Page = list[Job | UnreadableJob]

# A list that brings nothing new for so many pages in a row repeats itself.
STALE_PAGES = 3


class Seen:
    """What has been listed already, at less than 100 bytes a job."""

    def __init__(self) -> None:
        self._keys: set[int | str] = set()

    def add(self, entry: Job | UnreadableJob) -> bool:
        """Note *entry*; return whether it is new."""
        key = _key_of(entry)
        if key in self._keys:
            return False
        self._keys.add(key)
        return True


def _key_of(entry: Job | UnreadableJob) -> int | str:
    if isinstance(entry, UnreadableJob):
        # A job that turns out readable elsewhere must not be held for listed.
        return f"unreadable {entry.job_id or entry.problem}"
    try:
        number = UUID(entry.id)
    except ValueError:
        return entry.id
    return number.int if str(number) == entry.id else entry.id


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
            new = [entry for entry in entries if seen.add(entry)]
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
