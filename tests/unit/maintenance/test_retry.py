import json
from dataclasses import replace
from functools import partial

import pytest
from pydantic import SecretStr

from bulkdl import Downloader, Selection, Settings
from bulkdl.errors import ConfigError
from bulkdl.failure_policy import FAILURE_POLICIES, ExitCode
from bulkdl.graph import planning
from bulkdl.ledger import maintenance_queries, queries
from bulkdl.ledger.rows import NEW, PLANNED, ContainerRecord, OutputRecord
from bulkdl.maintenance.retry import REASONS, select_retries
from bulkdl.models import ContainerRef, Outcome, Output, Reason, Result
from bulkdl.selection import ContainerSelector, select_everything
from bulkdl.settings import CredentialSet, Shard
from bulkdl.simulator import Faults, SimulatedAccount, Simulator
from bulkdl.sources.up42_jobs.models import Kind, job_output
from support.hand_made_ledger import J1, J2, P1, T1, Folder, a_job, archive, done, failed, quicklook

KEY = f"{P1}/{J1}/final_output.tar.gz"
FAILURES = frozenset((*FAILURE_POLICIES, None))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def record(state, reason=None, file=None, output=None):
    return OutputRecord(output or archive(), state, reason, "", file)


FILE = done(archive(), KEY, b"archive").file
MATCHING_FILTERS = {
    "failed": (record("failed", Reason.STALLED), {"stalled", "any failure"}),
    "failed with another reason": (record("failed", Reason.CHECKSUM_MISMATCH), {"any failure"}),
    "failed, with an older file": (record("failed", Reason.STALLED, FILE), {"stalled", "any failure"}),
    "rejected by verify": (record(PLANNED, None, FILE), {"any failure"}),
    "planned, not attempted": (record(PLANNED), set()),
    "not recorded": (record(NEW), {"stalled", "any failure", "not available"}),
    "not available": (record("skipped", Reason.NOT_AVAILABLE), {"not available"}),
    "completed": (record("completed", Reason.DOWNLOADED, FILE), set()),
}
FILTERS = {
    "stalled": frozenset({Reason.STALLED}),
    "any failure": FAILURES,
    "not available": frozenset({Reason.NOT_AVAILABLE}),
}


@pytest.mark.parametrize("filter_name", FILTERS)
@pytest.mark.parametrize("state", MATCHING_FILTERS)
def test_split_missing_with_reasons_selects_matching_outputs(state, filter_name):
    output, filters = MATCHING_FILTERS[state]
    result = planning.split_missing([output], Selection(reasons=FILTERS[filter_name]), {})
    assert bool(result.missing) == (filter_name in filters)
    assert result.up_to_date == ()


def test_split_missing_without_reasons_selects_all_missing_outputs():
    for state, (output, _) in MATCHING_FILTERS.items():
        result = planning.split_missing([output], Selection(), {})
        assert bool(result.missing) == (state != "not available"), state


LIST = record("failed", Reason.STALLED, output=quicklook(""))


@pytest.mark.parametrize(
    ("job", "reasons", "expected"),
    [
        ({"listed_kinds": frozenset()}, FAILURES, True),
        ({"listing_failure": Reason.THROTTLED}, FAILURES, True),
        ({"listing_failure": Reason.THROTTLED}, {Reason.STALLED}, False),
        ({"outputs": (LIST,)}, FAILURES, True),
        ({"outputs": (LIST,)}, {Reason.THROTTLED}, False),
        ({"outputs": ()}, FAILURES, False),  # listed without quicklooks, because they were not selected
        ({"outputs": ()}, None, True),
    ],
)
def test_must_be_listed_with_reasons_selects_failed_lists(job, reasons, expected):
    facts = {"listed_kinds": frozenset({Kind.ARCHIVE, Kind.GEOJSON}), "outputs": (), **job}
    of_job = ContainerRecord(a_job(), **facts)
    selection = Selection(reasons=reasons if reasons is None else frozenset(reasons))
    assert planning.must_be_listed(of_job, selection, selection.wanted_kinds & frozenset(Kind)) is expected


async def select_retry(root, selection, reasons=()):
    """Return the selection to retry; None if there is none."""
    retried = await select_retries(root, [selection], reasons)
    return next(iter(retried.selections), None)


async def filled(folder):
    await folder.record(failed(archive()), done(archive(task_id=T1), KEY, b"x"))
    none = Result(archive(J2), Outcome.SKIPPED, Reason.NOT_AVAILABLE)
    await folder.record(none, failed(archive(J2, T1), Reason.THROTTLED), job=a_job(J2))


@pytest.mark.parametrize(
    ("reasons", "narrowed", "jobs"),
    [
        ((), {}, [J1, J2]),
        ((Reason.STALLED,), {}, [J1]),
        ((Reason.NOT_AVAILABLE,), {}, [J2]),
        ((Reason.STALLED, Reason.THROTTLED), {"containers": (ContainerSelector(None, J2),)}, [J2]),
        ((), {"containers": (ContainerSelector(P1, J1),)}, [J1]),
        ((), {"scopes": (P1,)}, [J1, J2]),
        ((), {"scopes": (J1,)}, None),
        ((Reason.TLS,), {}, None),
    ],
)
async def test_retry_selection_contains_the_matching_jobs_of_the_ledger(folder, reasons, narrowed, jobs):
    await filled(folder)
    selection = await select_retry(
        folder.root, Selection(shard=Shard(0, 1), since_last_s=5, **narrowed), reasons
    )
    if jobs is None:
        assert selection is None
    else:
        assert selection.containers == tuple(ContainerSelector(P1, job) for job in jobs)
        assert (selection.since_last_s, selection.shard) == (None, Shard(0, 1))
        assert selection.watermark_scope is None, "a retry must set no watermark"


async def test_select_retries_assigns_the_containers_to_the_selection_of_their_source(folder):
    await folder.record(failed(archive()))
    ref = ContainerRef("storage", "w", J2)
    delivery = replace(a_job(J2), ref=ref)
    await folder.record(failed(Output(ref, "", "original", "a.tif")), job=delivery)
    jobs, storage = Selection(), next(iter(select_everything(["storage"]).values()))
    retried = await select_retries(folder.root, [jobs, storage])
    assert [(each.source, each.containers) for each in retried.selections] == [
        ("jobs", (ContainerSelector(P1, J1),)),
        ("storage", (ContainerSelector("w", J2),)),
    ]
    assert retried.other_sources == ()
    retried = await select_retries(folder.root, [storage])
    assert [each.source for each in retried.selections] == ["storage"]
    assert retried.other_sources == ("jobs",)


async def test_retry_selection_contains_rejected_files_only_without_reasons(folder):
    await folder.record(done(archive(), KEY, b"x"))
    assert await select_retry(folder.root, Selection()) is None
    await folder.write(partial(maintenance_queries.mark_for_redownload, rejected=[(1, "verify: missing")]))
    assert (await select_retry(folder.root, Selection())).containers == (ContainerSelector(P1, J1),)
    assert await select_retry(folder.root, Selection(), [Reason.STALLED]) is None


async def test_retry_selection_with_an_unfinished_job_is_empty(folder):
    await folder.write(partial(queries.record_unfinished, containers=[a_job(status="RUNNING")]))
    assert await select_retry(folder.root, Selection()) is None


async def test_retry_selection_without_a_ledger_raises_config_error(folder):
    with pytest.raises(ConfigError, match="contains no ledger"):
        await select_retry(folder.root, Selection())


def test_reasons_contain_all_failures():
    assert set(REASONS) == {*FAILURE_POLICIES, Reason.NOT_AVAILABLE}


class Site:
    def __init__(self, root, simulator):
        self.root, self.simulator = root, simulator
        self.settings = Settings(output=root, api_url=simulator.api_url, retries=0, retry_base_delay=0)
        keys = {project.id: SecretStr(project.api_key) for project in simulator.projects}
        self.credentials = CredentialSet(by_project=keys, project_ids=tuple(keys))

    async def run(self, selection=None):
        async with Downloader(self.settings, credentials=self.credentials) as downloader:
            return await downloader.run(selection or Selection())

    async def retry(self, *reasons, **narrowed):
        """Return the summary of a retry and the paths of its API requests."""
        selection = await select_retry(self.root, Selection(**narrowed), reasons)
        assert selection is not None, "nothing has failed"
        before = len(self.simulator.requests)
        summary = await self.run(selection)
        return summary, [call.path for call in list(self.simulator.requests)[before:]]


@pytest.fixture
async def site(tmp_path):
    async with Simulator(SimulatedAccount(seed=3, projects=2, jobs=8)) as running:
        yield Site(tmp_path, running)


def is_list_of_jobs(path):
    return path.rstrip("/").endswith("/jobs")


async def test_retry_downloads_failed_outputs_without_listing_projects(site):
    site.simulator.faults = Faults.from_rules(
        {"fault": "status", "status": 503, "path": "*/task*/outputs/data-json"}
    )
    first = await site.run()
    assert (first.exit_code, first.outputs(Outcome.FAILED)) != (ExitCode.OK, 0)
    site.simulator.faults = None
    summary, requested = await site.retry()
    assert summary.exit_code is ExitCode.OK
    assert summary.outputs(Outcome.COMPLETED) == summary.outputs() == first.outputs(Outcome.FAILED)
    assert not [path for path in requested if is_list_of_jobs(path) or "/downloads/" in path]
    assert await select_retry(site.root, Selection()) is None


async def test_retry_of_a_job_with_a_failed_listing_downloads_all_outputs(site):
    job = next(job for job in site.simulator.account.iter_jobs() if job.status == "SUCCEEDED")
    site.simulator.faults = Faults.from_rules(
        {"fault": "status", "status": 503, "path": f"*/{job.id}/tasks*", "endpoint": "tasks"}
    )
    await site.run()
    site.simulator.faults = None
    summary, _ = await site.retry()
    assert (summary.exit_code, summary.containers.selected) == (ExitCode.OK, 1)
    second = await site.run()
    assert (second.exit_code, second.outputs(Outcome.COMPLETED)) == (ExitCode.OK, 0)


async def test_retry_does_not_download_kinds_that_were_not_selected(site):
    """A run with ``--kind archive`` lists all outputs of a job. The other outputs stay planned."""
    site.simulator.faults = Faults.from_rules(
        {"fault": "html", "server": "storage", "first": 1, "per": "all"}
    )
    first = await site.run(Selection(kinds=frozenset({Kind.ARCHIVE})))
    # Two if the archive of the last task is also the archive of the job.
    failed = first.outputs(Outcome.FAILED)
    assert failed in (1, 2)
    site.simulator.faults = None
    summary, _ = await site.retry()
    assert {kind for kind, _, _ in summary.counts} == {Kind.ARCHIVE}
    assert summary.outputs() == failed


async def test_retry_requests_a_failed_quicklook_list_again(site):
    site.simulator.faults = Faults.from_rules(
        {"fault": "status", "status": 503, "endpoint": "quicklooks", "first": 1, "per": "all"}
    )
    first = await site.run()
    assert first.failures[0].output.kind == Kind.QUICKLOOK
    site.simulator.faults = None
    documents = {path: path.read_bytes() for path in site.root.glob("*/*/job.json")}
    summary, _ = await site.retry()
    assert summary.exit_code is ExitCode.OK
    assert {kind for kind, _, _ in summary.counts} <= {Kind.QUICKLOOK}
    assert {path: path.read_bytes() for path in site.root.glob("*/*/job.json")} == documents
    assert all(json.loads(data)["data"]["id"] for data in documents.values())
    assert (await site.run()).outputs(Outcome.COMPLETED) == 0


def test_split_missing_ignores_the_marker_of_a_failed_list():
    assert planning.split_missing([LIST], Selection(reasons=FAILURES), {}).missing == ()
    assert job_output(P1, J1, T1, Kind.QUICKLOOK) == LIST.output
