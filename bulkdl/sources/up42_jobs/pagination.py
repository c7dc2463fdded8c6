"""
Read the list of jobs of a project from its pages, without losing a job when other jobs are deleted.

UP42 numbers the pages from 0 and reports neither a total nor a last page: a page behind the end is empty.
The pages are sorted by creation time, oldest first. A new job therefore goes to the end, and a deleted job
moves all later jobs forward. Reading from page 0 upwards would miss the job that moves from the next page
to the page just read.

The pages are therefore read from the last one down to page 0. Between two requests a job can only move to
a page that is still to be read, or to the page that was just requested. It can turn up twice, but it
cannot be lost, however many jobs are deleted meanwhile. A job that is created during the listing is found
by the next run.

The search for the last page costs about twice the binary logarithm of the number of pages: no additional
request for a project with one page, one for two pages, about twelve for a hundred. Reading upwards would
need a second request for every page, because a deletion is visible only on the pages already read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from bulkdl.listings import UnreadableContainer
from bulkdl.log import get_logger
from bulkdl.models import Container

_log = get_logger(__name__)

Page = list[Container | UnreadableContainer]
_Key = tuple[bool, str]

# A list without an end that has no new job on this many pages in a row repeats itself.
STALE_PAGES = 3
# The jobs of a hundred pages.
REMEMBERED_JOBS = 10_000
# The search for the last page stops here. No project has this many pages.
MAX_PAGES = 1 << 17


class RecentIds:
    """
    The IDs of the recently listed jobs, and of the jobs on the first pages that were read.

    When jobs are deleted, a job is listed again on one of the next two pages. Keeping all ids would
    need memory proportional to the list. The first pages are kept, so that a list without an end that
    starts over is recognised, however long it is.
    """

    def __init__(self, max_jobs: int = REMEMBERED_JOBS) -> None:
        self._max_jobs = max_jobs
        self._keys: set[_Key] = set()
        self._order: deque[_Key] = deque()

    def add(self, entry: Container | UnreadableContainer, *, page: int = 0, permanent: bool = False) -> bool:
        """Remember *entry* of page number *page*, with *permanent* for ever; return whether it is new."""
        key = _key_of(entry, page)
        if key in self._keys:
            return False
        self._keys.add(key)
        if permanent:
            return True
        self._order.append(key)
        if len(self._order) > self._max_jobs:
            self._keys.discard(self._order.popleft())
        return True


def _key_of(entry: Container | UnreadableContainer, page: int) -> _Key:
    """
    Return what identifies *entry*.

    A job that is unreadable on one page can be readable on another page, so both get different keys. The
    key of an unreadable job without an ID includes the page.
    """
    if isinstance(entry, UnreadableContainer):
        return False, entry.id or f"{page}: {entry.problem}"
    return True, entry.ref.id


@dataclass(frozen=True, slots=True)
class _LastPage:
    """
    The page at which reading starts.

    Attributes:
        entries: Its content; None if it must be requested (again).
        ends: Whether the page behind it is empty; False for a list without an end.
    """

    number: int
    entries: Page | None
    ends: bool


async def iter_jobs(
    page: Callable[[int], Awaitable[Page]], project_id: str
) -> AsyncGenerator[Container | UnreadableContainer, None]:
    """Yield the entries of all pages, the last page first; the next page is requested meanwhile."""
    last = await _find_last_page(page)
    recent_ids, number, stale_pages, pages_read = RecentIds(), last.number, 0, 0
    ahead = _request(page, number, project_id, last.entries)
    try:
        while True:
            entries = await ahead
            current, number, pages_read = number, number - 1, pages_read + 1
            if number >= 0:
                ahead = _request(page, number, project_id)
            permanent = not last.ends and pages_read <= STALE_PAGES
            new = [entry for entry in entries if recent_ids.add(entry, page=current, permanent=permanent)]
            stale_pages = 0 if any(_has_id(entry) for entry in new) else stale_pages + 1
            for entry in new:
                if isinstance(entry, UnreadableContainer):
                    _log.warning(
                        "job.unreadable", project_id=project_id, job_id=entry.id, problem=entry.problem
                    )
                yield entry
            if not last.ends and (stale_pages == STALE_PAGES or number < 0):
                _log.warning("jobs.repeated", project_id=project_id, pages=pages_read)
                return
            if number < 0:
                return
    finally:
        # The caller may have stopped early. The result of this request is not needed.
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)


async def _find_last_page(page: Callable[[int], Awaitable[Page]]) -> _LastPage:
    """Find the last page that is not empty: double the number until a page is empty, then bisect."""
    probed: set[_Key] = set()
    filled, empty, stale_pages = 0, 1, 0
    while entries := await page(empty):
        keys = {_key_of(entry, 0) for entry in entries}
        stale_pages = stale_pages + 1 if keys <= probed else 0
        if stale_pages == STALE_PAGES or empty >= MAX_PAGES:
            return _LastPage(empty, entries, ends=False)
        probed |= keys
        filled, empty = empty, 2 * empty
    content: Page | None = None  # reusable only if read after the empty page; older content may miss a job
    while empty - filled > 1:
        middle = (filled + empty) // 2
        if entries := await page(middle):
            filled, content = middle, entries
        else:
            empty, content = middle, None
    return _LastPage(filled, content, ends=True)


def _has_id(entry: Container | UnreadableContainer) -> bool:
    return isinstance(entry, Container) or entry.id is not None


def _request(
    page: Callable[[int], Awaitable[Page]], number: int, project_id: str, content: Page | None = None
) -> asyncio.Task[Page]:
    async def read() -> Page:
        return await page(number) if content is None else content

    return asyncio.create_task(read(), name=f"page {number} of {project_id}")
