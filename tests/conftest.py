import os

import pytest

from support.environment import clear_environment
from support.virtual_time import VirtualClock, use_virtual_clock


def pytest_configure() -> None:
    # Not in a fixture, because some test modules read the environment when they are imported.
    clear_environment(os.environ)


@pytest.fixture
async def virtual_clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    return use_virtual_clock(monkeypatch)
