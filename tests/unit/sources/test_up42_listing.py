"""The list of jobs while jobs are deleted and created, and what it costs."""

import asyncio
import random
import tracemalloc
from datetime import UTC, datetime
from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkdl.models import Job
from bulkdl.sources.up42_jobs.decode import UnreadableJob
from bulkdl.sources.up42_jobs.pagination import iter_jobs

AT = datetime(2020, 1, 1, tzinfo=UTC)


def a_job(job_id):
    return Job("p", job_id, "SUCCEEDED", "DEFAULT", None, AT, None, None)


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
        return [job.id async for job in iter_jobs(self.page, "p")]


@pytest.mark.parametrize("request_number", range(1, 12))
@pytest.mark.parametrize("deleted", [1, 2, 5])
async def test_listed_deletion_between_two_pages_loses_no_other_job(request_number, deleted):
    def change(project):
        if len(project.requests) == request_number:
            del project.ids[:deleted]

    project = Project(23, 5, change)
    found = await project.list()
    assert set(project.ids) <= set(found)
    assert len(found) == len(set(found))


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(0, 60),
    size=st.integers(1, 9),
    likely=st.floats(0, 1),
    most=st.integers(1, 12),
    rng=st.randoms(use_true_random=False),
)
def test_listed_any_deletions_and_new_jobs_lose_no_older_job(count, size, likely, most, rng: random.Random):
    def change(project):
        for _ in range(rng.randint(0, most) if rng.random() < likely else 0):
            if project.ids:
                project.ids.pop(rng.randrange(len(project.ids)))
        if rng.random() < likely:
            project.ids.append(f"new-{rng.random()}")

    project = Project(count, size, change)
    found = asyncio.run(project.list())
    assert {job_id for job_id in project.ids if not job_id.startswith("new")} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 5, 8, 64, 100, 1000])
async def test_listed_quiet_list_costs_few_requests_more_than_pages(pages):
    project = Project(10 * pages, 10)
    assert len(await project.list()) == 10 * pages
    extra = len(project.requests) - pages
    assert extra <= (1 if pages == 1 else 2 * log2(max(pages, 2)) + 2)


async def test_listed_unreadable_jobs_at_one_index_of_two_pages_are_two(logs):
    async def page(number):
        return [UnreadableJob("p", None, "data[0].createdAt: missing")] if number < 2 else []

    assert len([entry async for entry in iter_jobs(page, "p")]) == 2


@pytest.mark.parametrize("count", [1, 4, 130])
async def test_listed_server_that_ignores_the_page_number_ends(count, logs):
    async def page(number):
        return [a_job(str(at)) for at in range(count)]

    assert len([job async for job in iter_jobs(page, "p")]) == count
    assert "jobs.repeated" in [line["event"] for line in logs()]


async def test_listed_100_000_jobs_ten_a_page_need_little_memory():
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
