import os

import pytest

from support.environment import clear_environment


def test_clear_environment_removes_proxies_settings_and_credentials():
    env = {
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "*",
        "BULKDL_RATE": "1",
        "UP42_TOKEN": "t",
        "PATH": "/bin",
    }
    clear_environment(env)
    assert env == {"PATH": "/bin"}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "BULKDL_OUTPUT", "UP42_TOKEN"])
def test_environment_of_the_tests_is_cleared(name):
    assert name not in os.environ
