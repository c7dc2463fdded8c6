"""Test the account that nginx serves, without nginx, and the verification of results."""

import json
import tarfile

import pytest

from bench import check
from bench.delayed import EqualJobs
from bench.pairs import FileTotals, VerificationError
from bench.rows import quicklooks
from bench.site import Site, crc32c_of, job_id, quicklook_name, task_id
from bulkdl.sources.up42_jobs.models import Kind
from support.content_checks import validate_content


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path, jobs=250, tasks=3, quicklooks=2)
    site.write()
    return site


def test_site_job_is_on_one_page_and_the_last_page_is_empty(site):
    pages = [json.loads((site.root / f"pages/{name}.json").read_text())["data"] for name in (0, 1, 2, "end")]
    assert [len(page) for page in pages] == [100, 100, 50, 0]
    assert [job["id"] for page in pages for job in page] == [job_id(number) for number in range(250)]


def test_site_with_three_tasks_and_two_quicklooks_has_ten_outputs_per_job(site):
    assert site.outputs == 2500


def test_job_and_task_ids_share_the_prefix_that_nginx_matches():
    assert job_id(255)[:8] == task_id(255, 2)[:8] == "000000ff"


def test_tiny_archive_is_valid_and_its_checksum_is_configured(site):
    (key, path), *more = site.archives()
    assert not more
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["output/data.json"]
    assert key == "default"
    assert f"crc32c={crc32c_of(path)}" in site.maps()


def test_rate_limit_is_configured_only_if_requested(site):
    assert "limit_rate" not in site.locations()
    assert "limit_rate 4000000;" in Site(site.root, jobs=1, rate="4000000").locations()


def test_check_same_bytes_detects_missing_and_different_files(tmp_path):
    original, folder = tmp_path / "original", tmp_path / "out"
    original.write_bytes(b"abc")
    folder.mkdir()
    with pytest.raises(VerificationError):
        check.check_same_bytes(folder, {"x.jpg": original})
    (folder / "x.jpg").write_bytes(b"abd")
    with pytest.raises(VerificationError):
        check.check_same_bytes(folder, {"x.jpg": original})
    (folder / "x.jpg").write_bytes(b"abc")
    assert check.check_same_bytes(folder, {"x.jpg": original}) == FileTotals(1, 3)


def test_check_file_count_ignores_other_files(tmp_path):
    for name in ("a/job.json", ".bulkdl/parts/x.jpg", "a/1.jpg", "a/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert check.check_file_count(tmp_path, (".jpg",), 2) == FileTotals(2, 2)
    with pytest.raises(VerificationError, match="2 of 3 files"):
        check.check_file_count(tmp_path, (".jpg",), 3)


def test_equal_jobs_have_the_same_task_count_and_are_found_by_id():
    account = EqualJobs(jobs=5, archive_bytes=2_000, seed=5)
    jobs = list(account.iter_jobs())
    assert [(job.status, len(job.tasks)) for job in jobs] == [("SUCCEEDED", 3)] * 5
    assert [account.find_job(0, job.id) for job in jobs] == jobs
    assert quicklook_name(1) != quicklook_name(2)


def test_created_pictures_pass_validation_and_differ(tmp_path):
    pictures = quicklooks.create_pictures(tmp_path, 1, 2)
    for path in pictures.values():
        with path.open("rb") as stream:
            validate_content(Kind.QUICKLOOK, stream, path.stat().st_size)
    assert len({path.read_bytes() for path in pictures.values()}) == 2
