"""
Read lists page by page while entries are added and deleted.

Numbered pages are sorted by creation time, oldest first. A new entry goes to the end, and a deleted entry
moves all later entries forward. Reading upwards would miss the entry that moves to a page that was already
read. The pages are therefore read from the last one down to page 0: an entry can only move to a page that
is still to be read. It can turn up twice, and the caller drops duplicates. The newest entries come first.

Linked pages can only be read forward. A server that continues after the last entry of a page does not miss
entries when others are deleted. If that last entry itself is deleted, the link can become invalid. The list
is then read again from its start, once.

Both functions end on a list without an end: a page must contain an entry that is new among the recent ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import TypeVar

from bulkdl.errors import ApiError
from bulkdl.log import get_logger
from bulkdl.models import Reason
from bulkdl.sources.up42_storage.decode import LinkedPage, NextPage, NumberedPage
from bulkdl.sources.up42_storage.models import (
    Collection,
    Item,
    Order,
    Original,
    ProcessingJob,
    UnreadableEntry,
)

_log = get_logger(__name__)

_Entry = TypeVar("_Entry", Original, Order, Collection, Item, ProcessingJob)

# No account has this many pages of 100 entries.
MAX_PAGES = 1 << 17
# A list that has no new entry on this many pages in a row repeats itself.
STALE_PAGES = 20
REMEMBERED_ENTRIES = 20_000
_INVALID_LINK = frozenset({Reason.NOT_FOUND, Reason.REJECTED})


class RecentEntries:
    """The keys of the recent entries of a list. Keeping all keys would need memory proportional to it."""

    def __init__(self, max_entries: int = REMEMBERED_ENTRIES) -> None:
        self._max_entries = max_entries
        self._keys: set[int] = set()
        self._order: deque[int] = deque()

    def count_new(self, entries: Iterable[object]) -> int:
        """Remember *entries*; return how many of them are new."""
        keys = {hash(_key(entry)) for entry in entries} - self._keys
        self._keys |= keys
        self._order.extend(keys)
        while len(self._order) > self._max_entries:
            self._keys.discard(self._order.popleft())
        return len(keys)


def _key(entry: object) -> tuple[str, ...]:
    if isinstance(entry, UnreadableEntry):
        return "unreadable", entry.identity or entry.problem
    if isinstance(entry, Item):
        return entry.collection_id, entry.id
    return (str(getattr(entry, "id", "")),)


async def iter_entries(
    pages: AsyncGenerator[Sequence[_Entry | UnreadableEntry], None],
) -> AsyncGenerator[_Entry | UnreadableEntry, None]:
    """Yield the entries of *pages*."""
    async with aclosing(pages):
        async for entries in pages:
            for entry in entries:
                yield entry


async def iter_numbered_pages(
    page: Callable[[int], Awaitable[NumberedPage[_Entry]]],
    what: str,
    on_preview: Callable[[Sequence[_Entry | UnreadableEntry]], object] | None = None,
) -> AsyncGenerator[Sequence[_Entry | UnreadableEntry], None]:
    """
    Yield the entries of each page, the last page first.

    Args:
        what: The name of the list, for log messages.
        on_preview: Called with the entries of page 0, which are yielded last. They are current, but the
            list can lose them before it ends.
    """
    first = await page(0)
    if on_preview is not None:
        on_preview(first.entries)
    if first.total_pages is None:
        async with aclosing(_iter_upwards(page, first, what)) as pages:
            async for entries in pages:
                yield entries
        return
    last = min(first.total_pages, MAX_PAGES) - 1
    number, recent, stale_pages, pages_read = last, RecentEntries(), 0, 0
    while number > 0:
        current = await page(number)
        pages_read += 1
        stale_pages = 0 if recent.count_new(current.entries) else stale_pages + 1
        yield current.entries
        if stale_pages == STALE_PAGES:
            _log.warning("list.repeated", list=what, pages=pages_read)
            return
        # After many deletions, the list can have fewer pages than at the start.
        total = number if current.entries or current.total_pages is None else current.total_pages
        number = min(number, max(total, 1)) - 1
    # Entries can have moved to page 0 since it was read.
    yield (await page(0) if last > 0 else first).entries


async def _iter_upwards(
    page: Callable[[int], Awaitable[NumberedPage[_Entry]]], first: NumberedPage[_Entry], what: str
) -> AsyncGenerator[Sequence[_Entry | UnreadableEntry], None]:
    """Yield the pages of a list without a total, up to the first empty page."""
    content, number, recent, stale_pages = first.entries, 0, RecentEntries(), 0
    while content:
        stale_pages = 0 if recent.count_new(content) else stale_pages + 1
        yield content
        number += 1
        if stale_pages == STALE_PAGES or number == MAX_PAGES:
            _log.warning("list.repeated", list=what, pages=number)
            return
        content = (await page(number)).entries


async def iter_linked_pages(
    page: Callable[[NextPage | None], Awaitable[LinkedPage[_Entry]]], what: str
) -> AsyncGenerator[Sequence[_Entry | UnreadableEntry], None]:
    """
    Yield the entries of each page, beginning with the page for None.

    Args:
        what: The name of the list, for log messages.
    """
    following: NextPage | None = None
    recent, stale_pages, pages_read, may_restart = RecentEntries(), 0, 0, True
    while True:
        try:
            current = await page(following)
        except ApiError as failure:
            if following is None or failure.reason not in _INVALID_LINK or not may_restart:
                raise
            _log.info("list.restarted", list=what, pages=pages_read, detail=failure.detail)
            following, may_restart, stale_pages = None, False, -pages_read
            continue
        pages_read += 1
        stale_pages = 0 if recent.count_new(current.entries) else stale_pages + 1
        yield current.entries
        following = current.next_page
        if following is None:
            return
        if stale_pages == STALE_PAGES or pages_read == MAX_PAGES:
            _log.warning("list.repeated", list=what, pages=pages_read)
            return
