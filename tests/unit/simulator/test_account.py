from dataclasses import replace
from itertools import pairwise

import pytest

from bulkdl.simulator.account import SimulatedAccount
from bulkdl.simulator.scenarios import SCENARIOS, UNFINISHED


def test_account_jobs_depend_on_the_seed_only() -> None:
    assert list(SimulatedAccount(seed=3).iter_jobs()) == list(SimulatedAccount(seed=3).iter_jobs())
    assert {job.id for job in SimulatedAccount(seed=3).iter_jobs()}.isdisjoint(
        job.id for job in SimulatedAccount(seed=4).iter_jobs()
    )


def test_larger_account_starts_with_the_same_jobs() -> None:
    small = [job.id for job in SimulatedAccount(projects=1, jobs=20).iter_jobs()]
    assert [job.id for job in SimulatedAccount(projects=1, jobs=50).iter_jobs()][:20] == small


@pytest.mark.parametrize(("projects", "jobs"), [(1, 0), (3, 10), (4, 3)])
def test_account_distributes_jobs_among_projects(projects: int, jobs: int) -> None:
    account = SimulatedAccount(projects=projects, jobs=jobs)
    assert len(list(account.iter_jobs())) == jobs
    counts = [account.job_count(number) for number in range(projects)]
    assert max(counts) - min(counts) <= 1


def test_find_job_finds_ids_of_its_own_project_only() -> None:
    account = SimulatedAccount(jobs=10)
    job = account.job(1, 3)
    assert account.find_job(1, job.id) == job
    assert account.find_job(0, job.id) is None
    assert account.find_job(1, account.job(1, 5).id) is None
    assert account.find_job(1, job.tasks[0].id) is None
    assert account.project_number(job.id) is None


def test_creation_time_increases_with_the_job_number() -> None:
    account = SimulatedAccount(projects=1, jobs=1_000_000)
    timestamps = [account.job(0, k).created_at for k in (*range(40), 500, 999_998, 999_999)]
    assert all(earlier < later for earlier, later in pairwise(timestamps))


def test_first_jobs_cover_every_case() -> None:
    jobs = list(SimulatedAccount(projects=1, jobs=len(SCENARIOS)).iter_jobs())
    tasks = [task for job in jobs for task in job.tasks]
    assert {job.status for job in jobs} == {
        "SUCCEEDED", "FAILED", "ERROR", "CANCELLED", "NOT_STARTED", "PENDING", "RUNNING",
    }  # fmt: skip
    assert {job.mode for job in jobs} == {"DEFAULT", "DRY_RUN"}
    assert all(len(job.tasks) == 1 for job in jobs if job.mode == "DRY_RUN")
    assert any(job.name is None for job in jobs)
    assert any(job.name and "/" in job.name and not job.name.isascii() for job in jobs)
    assert {task.archive_format for task in tasks} == {"tgz", "zip", "tar"}
    assert {len(job.tasks) for job in jobs} == {1, 2, 3, 4}
    assert any(len(task.parent_ids) == 2 for task in tasks)
    assert all(task.is_data == (not task.parent_ids) for task in tasks)
    assert not any(task.quicklooks for task in tasks if not task.is_data)
    assert any(task.status == "SUCCEEDED" and not task.features for task in tasks)
    failed = next(job for job in jobs if job.status == "FAILED")
    assert [task.status for task in failed.tasks] == ["SUCCEEDED", "FAILED"]


def test_all_finished_changes_unfinished_jobs_only() -> None:
    account = SimulatedAccount(jobs=100)
    for before, after in zip(
        account.iter_jobs(), replace(account, all_finished=True).iter_jobs(), strict=True
    ):
        assert before.id == after.id
        if before.status in UNFINISHED:
            assert after.status == "SUCCEEDED"
        else:
            assert before == after


def test_project_key_repr_omits_the_api_key() -> None:
    project = SimulatedAccount().project_key(0)
    assert project.api_key not in repr(project)
