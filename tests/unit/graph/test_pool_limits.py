"""The limits of a run within the settings and the limit of open files."""

import math

import pytest

from bulkdl.graph.pool_limits import compute_run_limits, get_open_file_limit
from bulkdl.settings import Settings
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.sources.up42_storage.spec import ASSET
from bulkdl.sources.up42_storage.spec import SPEC as STORAGE


def test_compute_run_limits_with_enough_open_files_follows_the_settings():
    limits = compute_run_limits(Settings(), 1024, [SPEC])
    assert limits == compute_run_limits(Settings(), math.inf, [SPEC])
    assert [limits.pools[kind].workers for kind in Kind] == [32, 64, 64]
    assert limits.open_files < 1024


@pytest.mark.parametrize("open_file_limit", [0, 64, 96, 256, 400])
def test_compute_run_limits_with_few_open_files_reduces_all_limits(open_file_limit):
    limits = compute_run_limits(Settings(), open_file_limit, [SPEC])
    assert all(pool.workers >= 1 and pool.min_permits >= 1 for pool in limits.pools.values())
    assert all(pool.min_permits <= pool.start <= pool.max_permits for pool in limits.pools.values())
    if open_file_limit > 64:
        assert limits.open_files <= open_file_limit - 48


def test_compute_run_limits_with_fixed_concurrency_is_not_adaptive():
    settings = Settings(quicklook_concurrency=5, archive_concurrency=3, connections=1)
    limits = compute_run_limits(settings, 1024, [SPEC])
    assert [limits.pools[kind].is_adaptive for kind in (Kind.QUICKLOOK, Kind.ARCHIVE)] == [False, False]
    assert limits.pools[Kind.GEOJSON].is_adaptive


def test_get_open_file_limit_returns_the_limit_of_this_process(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (96, 96))
    assert get_open_file_limit() == 96
    assert compute_run_limits(Settings(), get_open_file_limit(), [SPEC]).pools[Kind.QUICKLOOK].workers < 10


def test_compute_run_limits_of_a_kind_with_unknown_sizes_has_workers_for_large_outputs():
    assets = compute_run_limits(Settings(), math.inf, [STORAGE]).pools[ASSET]
    assert assets.large is not None
    assert assets.workers == assets.max_permits + assets.large.workers
    assert assets.is_adaptive
    assert assets.large.is_adaptive
    fixed = Settings(kinds={ASSET: {"concurrency": 3}})
    assert compute_run_limits(fixed, math.inf, [STORAGE]).pools[ASSET].large is None


def test_compute_run_limits_has_a_connection_to_the_storage_for_each_worker():
    limits = compute_run_limits(Settings(), math.inf, [STORAGE])
    assert limits.connections[STORAGE.name].storage >= sum(pool.workers for pool in limits.pools.values())
    few = compute_run_limits(Settings(), 400, [STORAGE])
    assert few.open_files <= 400 - 48
    assert few.pools[ASSET].large.start >= 1
