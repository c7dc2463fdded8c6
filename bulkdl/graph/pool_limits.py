"""Computes the limits of a run: workers, concurrency and connections."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bulkdl.models import Kind
from bulkdl.settings import Settings

_MAX_CONNECTIONS = 64
_LISTING_CONNECTIONS = 8  # for each job that is being listed
_RESERVED_FILES = 48  # interpreter, event loop, ledger, logs, endpoints
_AUTO_CONCURRENCY = {
    Kind.ARCHIVE: (8, 32),
    Kind.QUICKLOOK: (16, 64),
    Kind.GEOJSON: (16, 64),
}  # start, maximum


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """
    The limits of the pool of one kind.

    Attributes:
        workers: Maximum number of outputs in progress.
        start: Permits at the start of a run.
        min_permits: Minimum number of permits.
        max_permits: Maximum number of permits. For archives, a permit is a connection. A large archive may
            have several connections.
    """

    workers: int
    start: int
    min_permits: int
    max_permits: int

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of permits can change."""
        return self.min_permits < self.max_permits


@dataclass(frozen=True, slots=True)
class RunLimits:
    """
    Limits of a run that follow from the settings and the limit of open files.

    Attributes:
        pools: By kind.
        api_connections: Maximum number of connections to the API.
        storage_connections: Maximum number of connections to the storage.
    """

    pools: dict[Kind, PoolLimits]
    api_connections: int
    storage_connections: int

    @property
    def open_files(self) -> int:
        """Maximum number of files that are open at the same time."""
        workers = sum(limits.workers for limits in self.pools.values())
        return self.api_connections + self.storage_connections + 2 * workers


def compute_run_limits(settings: Settings, open_file_limit: float) -> RunLimits:
    """
    Compute the limits of a run.

    The limits are those of *settings*. If they need more open files than *open_file_limit* allows, all of
    them are reduced in proportion.
    """
    pools = _configured_pools(settings)
    workers = sum(limits.workers for limits in pools.values())
    api_connections = workers + _LISTING_CONNECTIONS * settings.list_concurrency
    configured = RunLimits(pools, api_connections, pools[Kind.ARCHIVE].max_permits)
    factor = max(0.0, open_file_limit - _RESERVED_FILES) / configured.open_files
    if factor >= 1:
        return configured
    return RunLimits(
        {kind: _scale_pool(limits, factor) for kind, limits in pools.items()},
        _scale(api_connections, factor),
        _scale(configured.storage_connections, factor),
    )


def get_open_file_limit() -> float:
    """Return how many files this process may open at the same time; infinity if there is no limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def _scale_pool(limits: PoolLimits, factor: float) -> PoolLimits:
    counts = (limits.workers, limits.start, limits.min_permits, limits.max_permits)
    return PoolLimits(*(_scale(count, factor) for count in counts))


def _scale(count: int, factor: float) -> int:
    return max(1, int(count * factor))


def _configured_pools(settings: Settings) -> dict[Kind, PoolLimits]:
    """Return the limits that *settings* set: a number is fixed, ``auto`` adapts."""
    concurrency = {
        Kind.ARCHIVE: settings.archive_concurrency,
        Kind.QUICKLOOK: settings.quicklook_concurrency,
        Kind.GEOJSON: settings.geojson_concurrency,
    }
    return {kind: _pool_limits(kind, setting, settings.connections) for kind, setting in concurrency.items()}


def _pool_limits(kind: Kind, concurrency: object, connections: int) -> PoolLimits:
    is_fixed = isinstance(concurrency, int)
    start, workers = (concurrency, concurrency) if isinstance(concurrency, int) else _AUTO_CONCURRENCY[kind]
    connections_per_output = connections if kind is Kind.ARCHIVE else 1
    max_permits = max(workers, min(workers * connections_per_output, _MAX_CONNECTIONS))
    return PoolLimits(workers, start, start if is_fixed else 1, max_permits)
