import pytest

from bulkdl.failure_policy import ExitCode
from bulkdl.simulator import SimulatedAccount, Simulator
from support.downloaded_directory import DownloadedDirectory


@pytest.fixture
async def simulator():
    async with Simulator(SimulatedAccount(seed=3, projects=2, jobs=8)) as running:
        yield running


@pytest.fixture
async def site(tmp_path, simulator):
    filled = DownloadedDirectory(tmp_path, simulator)
    assert (await filled.run()).exit_code is ExitCode.OK
    return filled
