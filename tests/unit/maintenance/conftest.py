import subprocess
from pathlib import Path

import pytest

from bulkdl.failure_policy import ExitCode
from bulkdl.simulator import SimulatedAccount, Simulator
from support.downloaded_directory import DownloadedDirectory


def copy_folder(source: Path, target: Path) -> None:
    """Copy the content of *source*. Unlike shutil.copytree, cp keeps two names of one file."""
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)


@pytest.fixture
async def simulator():
    async with Simulator(SimulatedAccount(seed=3, projects=2, jobs=8)) as running:
        yield running


@pytest.fixture(scope="package")
def downloaded(tmp_path_factory):
    """The parent of the folder ``template``, which the first test fills. The other tests copy it."""
    return tmp_path_factory.mktemp("downloaded")


@pytest.fixture
async def site(tmp_path, simulator, downloaded):
    template = downloaded / "template"
    if not template.exists():
        root = downloaded / "being filled"
        assert (await DownloadedDirectory(root, simulator).run()).exit_code is ExitCode.OK
        root.rename(template)
    copy_folder(template, tmp_path)
    return DownloadedDirectory(tmp_path, simulator)
