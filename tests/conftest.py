import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support import fork_server
from support.environment import clear_environment
from support.temporary_folders import find_other_file_system, use_memory
from support.virtual_time import VirtualClock, use_virtual_clock


def pytest_configure() -> None:
    fork_server.install()
    # Not in a fixture, because some test modules read the environment when they are imported.
    clear_environment(os.environ)
    use_memory(os.environ)
    # By default, hypothesis fails an example that takes longer than 200 ms, and slow generation of examples.
    settings.register_profile("no time limits", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("no time limits")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A slow test starts many processes. Its timeout, which ends a test that hangs, must suit a busy machine.
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


def pytest_collection_finish() -> None:
    # The collected tests exist until the end. The garbage collector need not look at them again.
    gc.collect()
    gc.freeze()


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """Yield an empty folder on another file system than *tmp_path*."""
    parent = find_other_file_system(tmp_path)
    if parent is None:
        pytest.skip("needs a second file system")
    folder = Path(tempfile.mkdtemp(dir=parent))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    return use_virtual_clock(monkeypatch)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """
    Name a test with a long body after its parameter.

    An archive can contain the time of its creation, but all workers must collect the same names.
    """
    return argname if isinstance(val, bytes) and len(val) > 60 else None
