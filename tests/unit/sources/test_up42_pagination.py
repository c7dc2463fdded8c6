"""Listing jobs while jobs are deleted and created, and the number of requests for it."""

import asyncio
import random
import tracemalloc
from datetime import UTC, datetime
from math import log2
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkdl.listings import UnreadableContainer
from bulkdl.sources.up42_jobs.models import job_container
from bulkdl.sources.up42_jobs.pagination import MAX_PAGES, STALE_PAGES, RecentIds, iter_jobs

CREATED_AT = datetime(2020, 1, 1, tzinfo=UTC)


def a_job(job_id):
    return job_container("p", job_id, "SUCCEEDED", "DEFAULT", None, CREATED_AT, None, None)


class Project:
    """A list of jobs that changes before each request."""

    def __init__(self, count, size, change=lambda project: None):
        self.ids = [str(number) for number in range(count)]
        self.size = size
        self.requests = []
        self._change = change

    async def page(self, number):
        self._change(self)
        self.requests.append(number)
        start = number * self.size
        return [a_job(job_id) for job_id in self.ids[start : start + self.size]]

    async def list(self):
        return [job.ref.id async for job in iter_jobs(self.page, "p")]


@pytest.mark.parametrize("request_number", range(1, 12))
@pytest.mark.parametrize("deleted", [1, 2, 5])
async def test_iter_jobs_deletion_between_two_pages_misses_no_other_job(request_number, deleted):
    def change(project):
        if len(project.requests) == request_number:
            del project.ids[:deleted]

    project = Project(23, 5, change)
    listed = await project.list()
    assert set(project.ids) <= set(listed)
    assert len(listed) == len(set(listed))


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(0, 60),
    size=st.integers(1, 9),
    probability=st.floats(0, 1),
    max_deleted=st.integers(1, 12),
    rng=st.randoms(use_true_random=False),
)
def test_iter_jobs_any_deletions_and_new_jobs_miss_no_older_job(
    count, size, probability, max_deleted, rng: random.Random
):
    def change(project):
        for _ in range(rng.randint(0, max_deleted) if rng.random() < probability else 0):
            if project.ids:
                project.ids.pop(rng.randrange(len(project.ids)))
        if rng.random() < probability:
            project.ids.append(f"new-{rng.random()}")

    project = Project(count, size, change)
    listed = asyncio.run(project.list())
    assert {job_id for job_id in project.ids if not job_id.startswith("new")} <= set(listed)
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 5, 8, 64, 100, 1000])
async def test_iter_jobs_unchanged_list_needs_few_additional_requests(pages):
    project = Project(10 * pages, 10)
    assert len(await project.list()) == 10 * pages
    extra = len(project.requests) - pages
    assert extra <= (1 if pages == 1 else 2 * log2(max(pages, 2)) + 2)


async def test_iter_jobs_unreadable_jobs_at_one_index_of_two_pages_are_two(logs):
    async def page(number):
        return [UnreadableContainer(None, "data[0].createdAt: missing")] if number < 2 else []

    assert len([entry async for entry in iter_jobs(page, "p")]) == 2


@pytest.mark.parametrize("count", [1, 4, 130])
async def test_iter_jobs_server_that_ignores_the_page_number_ends(count, logs):
    async def page(number):
        return [a_job(str(at)) for at in range(count)]

    assert len([job async for job in iter_jobs(page, "p")]) == count
    assert "jobs.repeated" in [line["event"] for line in logs()]


async def test_iter_jobs_100_000_jobs_on_10_000_pages_need_little_memory():
    async def page(number):
        ids = range(number * 10, min(number * 10 + 10, 100_000))
        return [a_job(f"023694d4-1b52-46e8-a9a0-{at:012}") for at in ids]

    count = 0
    tracemalloc.start()
    try:
        async for _ in iter_jobs(page, "p"):
            count += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 4 * 1024 * 1024


def _job(job_id):
    return job_container("p", job_id, "S", "D", None, datetime(2020, 1, 1, tzinfo=UTC), None, None)


def test_recent_ids_compare_the_complete_id():
    recent_ids = RecentIds()
    job_id = str(uuid4())
    ids = (job_id, job_id, "x", "x", job_id.upper(), UUID(job_id).hex)
    assert [recent_ids.add(_job(text)) for text in ids] == [True, False, True, False, True, True]
    unreadable = UnreadableContainer(job_id, "problem")
    assert [recent_ids.add(unreadable), recent_ids.add(unreadable)] == [True, False]


def test_recent_ids_number_is_limited():
    recent_ids = RecentIds(max_jobs=3)
    assert all(recent_ids.add(_job(text)) for text in "abc")
    assert not any(recent_ids.add(_job(text)) for text in "abc")
    assert recent_ids.add(_job("d"))
    assert [recent_ids.add(_job(text)) for text in "bcd"] == [False, False, False]
    assert recent_ids.add(_job("a"))


def test_recent_ids_memory_does_not_grow_with_the_list():
    tracemalloc.start()
    try:
        recent_ids = RecentIds()
        for number in range(60_000):
            recent_ids.add(_job(str(UUID(int=number * 2**80 + 2**127))))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 3 * 1024 * 1024


async def test_iter_jobs_list_longer_than_memory_that_starts_over_ends():
    """The list has more jobs than ``RecentIds`` remembers."""
    pages_of_list = 130
    requested = []

    async def page(number):
        requested.append(number)
        assert len(requested) < 2 * pages_of_list, "the listing does not end"
        first = number % pages_of_list * 100
        return [_job(f"job-{first + at}") for at in range(100)]

    listed_ids = [job.ref.id async for job in iter_jobs(page, "p")]
    assert sorted(listed_ids) == sorted(f"job-{number}" for number in range(pages_of_list * 100))
    assert len(requested) <= pages_of_list + STALE_PAGES + 1 + log2(MAX_PAGES)
