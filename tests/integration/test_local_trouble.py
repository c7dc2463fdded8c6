"""Test errors of single local paths, which must not end a run."""

import asyncio
import os
import sys

import pytest

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Reason
from bulkdl.sources.up42_jobs.models import Kind
from support.library_runs import TAME, library_environment


@pytest.fixture
async def site(tmp_path):
    async with library_environment(tmp_path, TAME) as made:
        yield made


def put_folder_at_archive(path):
    path.mkdir(parents=True)


def put_file_at_task_folder(path):
    path.parent.parent.mkdir(parents=True)
    path.parent.write_bytes(b"in the way")


def put_folder_at_job_document(path):
    (path.parent.parent / "job.json").mkdir(parents=True)


@pytest.mark.parametrize("put", [put_folder_at_archive, put_file_at_task_folder, put_folder_at_job_document])
async def test_run_with_a_blocked_path_fails_that_job_alone_and_completes_later(site, put):
    chosen = next(
        output
        for output in site.simulator.expected_outputs()
        if output.task_id and output.kind == Kind.ARCHIVE
    )
    path = next(
        site.output / key for key in site.expected_files() if chosen.task_id in key and "task_output." in key
    )
    put(path)
    summary = await site.run()
    assert summary.exit_code is ExitCode.FAILED
    reasons = {row.reason for row in summary.failures} | {row.reason for row in summary.problems}
    assert reasons == {Reason.PATH_BLOCKED}
    expected, got = site.expected_files(), site.read_files()
    others = {key: body for key, body in expected.items() if chosen.job_id not in key}
    assert others.items() <= got.items()
    if put is put_folder_at_archive:
        assert set(expected) - set(got) == {path.relative_to(site.output).as_posix()}

    for each in (path, path.parent, path.parent.parent / "job.json"):
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()
        elif each.is_file() and each.read_bytes() == b"in the way":
            each.unlink()
    assert (await site.run()).exit_code is ExitCode.OK
    assert site.read_files() == expected


async def test_run_with_few_open_files_is_slower_and_completes(site):
    project = site.simulator.projects[0]
    keys = {"UP42_PROJECT_ID": project.id, "UP42_PROJECT_API_KEY": project.api_key}
    command = [sys.executable, "-m", "bulkdl", "run", "-o", str(site.output), "--rate", "0"]
    command += ["--api-url", site.simulator.api_url]
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", 'ulimit -n 80; exec "$@"', "sh", *command, env={**os.environ, **keys}
    )
    assert await process.wait() == ExitCode.OK
    assert site.read_files() == site.expected_files()
