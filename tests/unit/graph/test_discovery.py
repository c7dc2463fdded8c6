import asyncio
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from bulkdl.errors import ApiError
from bulkdl.graph.discovery import PAGE_SIZE, ContainerDiscovery
from bulkdl.graph.enumeration_results import PlanHandler
from bulkdl.graph.ledger_view import EmptyLedgerView, PlanLedgerView, RunLedgerView
from bulkdl.ledger import queries
from bulkdl.ledger.database import Ledger
from bulkdl.listings import PlannedOutput, UnreadableContainer
from bulkdl.models import Reason
from bulkdl.report.plan import PlanBuilder
from bulkdl.report.summary import SummaryBuilder
from bulkdl.selection import ContainerSelector, Selection
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.sources.up42_jobs.models import SOURCE, Kind, job_container, job_output
from bulkdl.sources.up42_jobs.source import SOURCE_TYPE
from bulkdl.sources.up42_jobs.spec import SPEC

CREATED_AT = datetime(2024, 1, 31, tzinfo=UTC)


def job(job_id, project_id="p"):
    return job_container(project_id, job_id, "SUCCEEDED", "DEFAULT", None, CREATED_AT, CREATED_AT, None)


class FakeSource:
    """A source whose lists end with an error if an entry is an exception."""

    def __init__(self, **projects):
        self.projects = projects
        self.scopes = tuple(projects)
        self.requested = []
        self.closed = []

    async def list_containers(self, scope):
        try:
            for entry in self.projects[scope]:
                if isinstance(entry, Exception):
                    raise entry
                yield entry
        finally:
            self.closed.append(scope)

    async def get_container(self, ref):
        self.requested.append(ref.scope)
        for entry in self.projects[ref.scope]:
            if entry.ref == ref:
                return entry
        raise ApiError(Reason.NOT_FOUND, f"{ref.id} not found")


@pytest.fixture
def handler():
    return PlanHandler(
        PlanBuilder(SummaryBuilder("run", CREATED_AT), SPEC.kind_names),
        partial(SOURCE_TYPE.make_key, templates=dict(PathTemplates())),
        SOURCE,
    )


def problems(handler):
    return [(problem.reason, problem.detail) for problem in handler.plan.summary.build().problems]


def discovery(handler, source, **selection):
    return ContainerDiscovery(Selection(**selection), SPEC, source, EmptyLedgerView(), handler)


async def pages(discovery):
    async with aclosing(discovery.discover_containers()) as found:
        return [(page.scope, [entry.ref.id for entry in page.containers]) async for page in found]


async def test_discover_containers_yields_pages_of_limited_size_for_each_project(handler):
    ids = [str(number) for number in range(PAGE_SIZE + 1)]
    source = FakeSource(p=[job(job_id) for job_id in ids], q=[], r=[job("x", "r")])
    assert await pages(discovery(handler, source)) == [("p", ids[:-1]), ("p", ids[-1:]), ("r", ["x"])]
    assert handler.counts.seen == handler.counts.selected == PAGE_SIZE + 2


async def test_discover_containers_yields_a_page_while_the_list_waits_for_its_server(handler):
    is_answered = asyncio.Event()

    class SlowSource(FakeSource):
        async def list_containers(self, scope):
            yield job("a")
            await is_answered.wait()
            yield job("b")

    async with aclosing(discovery(handler, SlowSource(p=[])).discover_containers()) as found:
        assert [entry.ref.id for entry in (await anext(found)).containers] == ["a"]
        is_answered.set()
        assert [entry.ref.id for entry in (await anext(found)).containers] == ["b"]


async def test_discover_containers_two_workers_list_each_project_once(handler):
    shared = discovery(handler, FakeSource(p=[job("a")], q=[job("b", "q")]))
    async with aclosing(shared.discover_containers()) as first:
        assert (await anext(first)).scope == "p"
        assert await pages(shared) == [("q", ["b"])]
        assert [page async for page in first] == []


async def test_discover_containers_failed_list_is_reported_after_its_jobs_are_yielded(handler):
    source = FakeSource(p=[job("a"), ApiError(Reason.FORBIDDEN, "forbidden")], q=[job("b", "q")])
    assert await pages(discovery(handler, source)) == [("p", ["a"]), ("q", ["b"])]
    assert problems(handler) == [(Reason.FORBIDDEN, "forbidden")]


async def test_discover_containers_unreadable_job_is_reported(handler):
    source = FakeSource(p=[UnreadableContainer("u", "createdAt: missing"), job("a")])
    assert await pages(discovery(handler, source)) == [("p", ["a"])]
    assert problems(handler) == [(Reason.INVALID_RESPONSE, "createdAt: missing")]
    assert (handler.counts.seen, handler.counts.selected) == (2, 1)


async def test_discover_containers_closed_iterator_closes_the_job_list(handler):
    source = FakeSource(p=[job(str(number)) for number in range(2 * PAGE_SIZE)])
    async with aclosing(discovery(handler, source).discover_containers()) as found:
        await anext(found)
        assert source.closed == []
    assert source.closed == ["p"]


async def test_discover_containers_by_id_requests_all_projects_until_one_has_the_job(handler):
    source = FakeSource(p=[], q=[job("a", "q")], r=[])
    containers = (ContainerSelector(None, "a"), ContainerSelector("r", "missing"))
    assert await pages(discovery(handler, source, containers=containers)) == [("q", ["a"])]
    assert source.requested == ["p", "q", "r"]
    assert problems(handler) == [(Reason.NOT_FOUND, "missing not found")]


@asynccontextmanager
async def open_ledger(path: Path):
    ledger = await Ledger.open(path)
    try:
        yield ledger
    finally:
        await ledger.close()


async def test_ledger_view_only_a_run_writes(tmp_path):
    def write(connection):
        queries.record_unfinished(connection, [job("a")])

    async with open_ledger(tmp_path / "ledger.sqlite") as ledger:
        plan, run = PlanLedgerView(ledger), RunLedgerView(ledger, "run")
        assert (plan.is_read_only, plan.run_id) == (True, None)
        assert (run.is_read_only, run.run_id) == (False, "run")
        await plan.write(write)
        assert await run.known_containers(SOURCE, "p", ["a"]) == {}
        await run.write(write)
        assert list(await plan.known_containers(SOURCE, "p", ["a", "b"])) == ["a"]
        assert await plan.scopes_of(SOURCE, "a") == ["p"]


async def test_ledger_view_without_ledger_is_empty():
    view = EmptyLedgerView()
    await view.write(lambda connection: connection.execute("invalid"))
    assert (await view.known_containers(SOURCE, "p", ["a"]), await view.scopes_of(SOURCE, "a")) == ({}, [])


async def test_plan_handler_archive_has_no_key_before_the_download(handler):
    archive, geojson = (job_output("p", "j", None, kind) for kind in (Kind.ARCHIVE, Kind.GEOJSON))
    await handler.enqueue((PlannedOutput(archive), PlannedOutput(geojson)))
    assert handler.plan.build().outputs == [(archive, None), (geojson, "p/j/job_output.json")]
