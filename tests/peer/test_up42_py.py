"""
Compare downloads of the official client (up42-py 0.37.2) from the simulator with those of bulkdl.

The tests run in the environment of the client. BULKDL_PYTHON is the interpreter with bulkdl.
"""

import io
import json
import os
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from up42.auth import Auth
from up42.http.oauth import WrongCredentials
from up42.job import Job
from up42.jobcollection import JobCollection
from up42.jobtask import JobTask
from up42.project import Project

from support.point_client import point_client_at

PYTHON = os.environ.get("BULKDL_PYTHON", ".venv/bin/python")
USER, PASSWORD = "someone@example.com", "correct horse"


@dataclass(frozen=True)
class Served:
    api_url: str
    project_id: str
    api_key: str


@pytest.fixture(scope="session", autouse=True)
def _no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1,localhost")
        yield


@pytest.fixture(autouse=True)
def _temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirect temporary files, because the client does not remove its archives."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    command = [PYTHON, "-m", "bulkdl", "simulate", "--projects", "2", "--jobs", "44", "--page-size", "7"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            point_client_at(line["api_url"])
            project = line["projects"][0]
            yield Served(line["api_url"], project["id"], project["api_key"])
        finally:
            process.terminate()
        assert process.wait(10) == 143


@pytest.fixture(scope="session")
def auth(served: Served) -> Auth:
    return Auth(project_id=served.project_id, project_api_key=served.api_key)


@pytest.fixture(scope="session")
def jobs(served: Served, auth: Auth) -> list[Job]:
    """Return the succeeded jobs, newest first. Dry runs can lack an archive, which the client rejects."""
    everything = Project(auth, served.project_id).get_jobs(test_jobs=False)
    assert len(everything.jobs) > 14, "more than one page"
    return [job for job in everything if job._info["status"] == "SUCCEEDED"]


@pytest.fixture(scope="session")
def tree(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that ``bulkdl run`` filled from the same project."""
    out = tmp_path_factory.mktemp("bulkdl")
    command = [
        PYTHON,
        "-m",
        "bulkdl",
        "run",
        "-p",
        served.project_id,
        "--api-url",
        served.api_url,
        "-o",
        str(out),
    ]
    secrets = {"UP42_PROJECT_ID": served.project_id, "UP42_PROJECT_API_KEY": served.api_key}
    done = subprocess.run(command, env={**os.environ, **secrets}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out / served.project_id


def one_archive(folder: Path, stem: str) -> bytes:
    (path,) = (path for path in folder.glob(f"{stem}.*") if path.suffix != ".json")
    return path.read_bytes()


def members(archive: bytes) -> dict[str, bytes]:
    if archive.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            return {name.removeprefix("output/"): packed.read(name) for name in packed.namelist()}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {name.removeprefix("output/"): file.read() for name, file in files.items() if file}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_up42_py_authenticates_with_both_grants(served: Served) -> None:
    by_key = Auth(project_id=served.project_id, project_api_key=served.api_key)
    by_password = Auth(username=USER, password=PASSWORD)
    assert by_key.workspace_id == by_password.workspace_id
    for login in (by_key, by_password):
        assert Project(login, served.project_id).info["id"] == served.project_id


def test_up42_py_wrong_credentials_raise_its_error(served: Served) -> None:
    with pytest.raises(WrongCredentials):
        Auth(project_id=served.project_id, project_api_key="AbcdEfgh.wrong")


def test_up42_py_archives_are_identical(
    served: Served, auth: Auth, jobs: list[Job], tree: Path, tmp_path: Path
) -> None:
    collection = JobCollection(auth, served.project_id, jobs)
    collection.download_results(tmp_path / "out", merge=False, unpacking=False)
    assert len(list((tmp_path / "out").iterdir())) == len(jobs)
    for job in jobs:
        got = (tmp_path / "out" / f"job_{job.job_id}" / "output.tgz").read_bytes()
        assert got == one_archive(tree / job.job_id, "final_output")


def test_up42_py_collection_is_unpacked_and_merged(
    served: Served, auth: Auth, jobs: list[Job], tree: Path, tmp_path: Path
) -> None:
    JobCollection(auth, served.project_id, jobs).download_results(tmp_path / "out")
    features = json.loads((tmp_path / "out" / "data.json").read_text())["features"]
    assert {feature["properties"]["job_id"] for feature in features} <= {job.job_id for job in jobs}
    for job in jobs:
        unpacked = files_below(tmp_path / "out" / f"job_{job.job_id}")
        assert unpacked == members(one_archive(tree / job.job_id, "final_output"))
    assert all((tmp_path / "out" / feature["properties"]["up42.data_path"]).is_file() for feature in features)


def test_up42_py_task_archives_and_geojson_are_identical(jobs: list[Job], tree: Path, tmp_path: Path) -> None:
    seen = 0
    for job in jobs:
        for task in job.get_jobtasks():
            folder = tree / job.job_id / task.jobtask_id
            task.download_results(tmp_path / task.jobtask_id)
            assert files_below(tmp_path / task.jobtask_id) == members(one_archive(folder, "task_output"))
            assert task.get_results_json() == json.loads((folder / "task_output.json").read_bytes())
            assert task.jobtask_id in repr(task)
            seen += 1
    assert seen > len(jobs)


def test_up42_py_succeeded_tasks_of_a_failed_job_have_outputs(
    served: Served, auth: Auth, tree: Path, tmp_path: Path
) -> None:
    failed: list[dict[str, Any]] = [
        job
        for job in Project(auth, served.project_id).get_jobs(return_json=True)
        if job["status"] == "FAILED"
    ]
    job = Job(auth, served.project_id, failed[-1]["id"])
    first = job.get_jobtasks(return_json=True)[0]
    assert first["status"] == "SUCCEEDED"
    task = JobTask(auth, served.project_id, job.job_id, first["id"])
    task.download_results(tmp_path / "out")
    archive = one_archive(tree / job.job_id / first["id"], "task_output")
    assert files_below(tmp_path / "out") == members(archive)


def test_up42_py_job_geojson_is_identical(jobs: list[Job], tree: Path) -> None:
    for job in jobs:
        assert job.get_results_json() == json.loads((tree / job.job_id / "job_output.json").read_bytes())
    frame = jobs[-1].get_results_json(as_dataframe=True)
    assert len(frame) == len(jobs[-1].get_results_json()["features"]) > 0


def test_up42_py_quicklooks_are_identical(jobs: list[Job], tree: Path, tmp_path: Path) -> None:
    seen = 0
    for job in jobs:
        first = job.get_jobtasks(return_json=True)[0]["id"]
        paths = job.download_quicklooks(tmp_path / job.job_id)
        got = {Path(path).name.removeprefix("quicklook_"): Path(path).read_bytes() for path in paths}
        folder = tree / job.job_id / first / "quicklooks"
        assert got == (files_below(folder) if folder.is_dir() else {})
        seen += len(got)
    assert seen
