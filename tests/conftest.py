import os

from support.environment import clear_environment


def pytest_configure() -> None:
    # Not in a fixture, because some test modules read the environment when they are imported.
    clear_environment(os.environ)
