import pytest

from bulkdl.simulator.account import SimulatedAccount
from bulkdl.simulator.lazy_bytes import read_all
from bulkdl.simulator.objects import BUCKET, Bucket, compute_checksums, object_path


@pytest.mark.parametrize("size", [400, 20_000, 1_000_000, 50_000_000, 6 << 30])
def test_archive_size_is_close_to_the_requested_size(size: int) -> None:
    account = SimulatedAccount(projects=1, jobs=20, archive_bytes=size)
    bucket = Bucket(account)
    for job in account.iter_jobs():
        for task in job.tasks:
            if task.archive_bytes is None or not task.features:
                continue
            got = bucket.body(job, task).size
            if size >= 20_000:
                assert got == pytest.approx(size, rel=0.05)
            else:
                assert got < (1_500 if task.archive_format == "tgz" else 12_000)


async def test_replaced_object_differs_in_content_and_length() -> None:
    account = SimulatedAccount(projects=1, jobs=1)
    bucket, job = Bucket(account), account.job(0, 0)
    path = object_path(job, job.tasks[0])
    first = await bucket.get(path)
    bucket.replace_object(path)
    same = await bucket.get(path)
    bucket.replace_object(path, longer_by=5_120)
    longer = await bucket.get(path)
    assert first
    assert same
    assert longer
    assert first.body.size == same.body.size < longer.body.size
    assert len({one.checksums.etag for one in (first, same, longer)}) == 3
    assert len({one.generation for one in (first, same, longer)}) == 3
    assert read_all(bucket.body(job, job.tasks[0])) == read_all(longer.body)
    assert compute_checksums(longer.body) == longer.checksums


@pytest.mark.parametrize("path", ["/", "/a/b", f"/{BUCKET}/x/x-1/output.tgz", "/a/b/c/d"])
async def test_get_unknown_path_returns_none(path: str) -> None:
    assert await Bucket(SimulatedAccount()).get(path) is None


async def test_buckets_share_the_objects_of_equal_accounts_only() -> None:
    account = SimulatedAccount(projects=1, jobs=1)
    job = account.job(0, 0)
    path = object_path(job, job.tasks[0])
    first, second = Bucket(account), Bucket(SimulatedAccount(projects=1, jobs=1))
    assert first.read(path) is second.read(path)
    first.replace_object(path)
    assert first.read(path) is not second.read(path)
    replaced, original = await first.get(path), await second.get(path)
    assert replaced
    assert original
    assert replaced.checksums == compute_checksums(replaced.body) != original.checksums
    hostile = Bucket(SimulatedAccount(projects=1, jobs=1, hostile_names=True))
    assert hostile.read(path) is not second.read(path)
