"""Pools and connections within the settings and the limit of open files."""

import math

import pytest

from bulkdl.graph.sizes import open_file_limit, pool_limits, run_sizes
from bulkdl.models import Kind
from bulkdl.settings import Settings


def test_run_sizes_with_enough_open_files_follow_the_settings():
    sizes = run_sizes(Settings(), 1024)
    assert sizes == run_sizes(Settings(), math.inf)
    assert [sizes.pools[kind].workers for kind in Kind] == [32, 64, 64]
    assert sizes.open_files < 1024


@pytest.mark.parametrize("limit", [0, 64, 96, 256, 400])
def test_run_sizes_with_few_open_files_shrink_in_proportion_and_keep_one_of_each(limit):
    sizes = run_sizes(Settings(), limit)
    assert all(size.workers >= 1 and size.min_permits >= 1 for size in sizes.pools.values())
    assert all(size.min_permits <= size.start <= size.max_permits for size in sizes.pools.values())
    if limit > 64:
        assert sizes.open_files <= limit - 48


def test_sizes_of_respects_the_limit_of_this_process(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (96, 96))
    assert open_file_limit() == 96
    assert pool_limits(Settings())[Kind.QUICKLOOK].workers < 10
