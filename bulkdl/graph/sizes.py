"""How many workers each pool has, and between which bounds they are at work at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bulkdl.models import Kind
from bulkdl.settings import Settings

_MOST_CONNECTIONS = 64
_LISTING_CONNECTIONS = 8  # for each job that is being listed
_RESERVED_FILES = 48  # interpreter, event loop, ledger, logs, endpoints
_AUTO = {Kind.ARCHIVE: (8, 32), Kind.QUICKLOOK: (16, 64), Kind.GEOJSON: (16, 64)}


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """
    Attributes:
        workers: Outputs in flight, at most.
        start: Permits to begin with.
        least: Never fewer permits.
        most: Never more. For archives a permit is a connection, of which a large one may have several.
    """

    workers: int
    start: int
    min_permits: int
    max_permits: int


@dataclass(frozen=True, slots=True)
class RunSizes:
    """
    Bounds of a run that follow from the settings and the limit of open files.

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
        """Maximum number of files that are open for all of this at once."""
        writing = sum(size.workers for size in self.pools.values())
        return self.api_connections + self.storage_connections + 2 * writing


def run_sizes(settings: Settings, open_file_limit: float) -> RunSizes:
    """
    Compute the bounds of a run.

    They are the settings' own, or all smaller in proportion if the process may not open so many files.
    """
    pools = _settings_pools(settings)
    api = sum(size.workers for size in pools.values()) + _LISTING_CONNECTIONS * settings.list_concurrency
    wanted = RunSizes(pools, api, pools[Kind.ARCHIVE].max_permits)
    share = max(0.0, open_file_limit - _RESERVED_FILES) / wanted.open_files
    if share >= 1:
        return wanted
    return RunSizes(
        {kind: _scale_pool(size, share) for kind, size in pools.items()},
        _scale(api, share),
        _scale(wanted.storage_connections, share),
    )


def pool_limits(settings: Settings) -> dict[Kind, PoolLimits]:
    """Return the sizes of the pools within the limit of open files of this process."""
    return run_sizes(settings, open_file_limit()).pools


def open_file_limit() -> float:
    """Return how many files this process may open at once; infinity if there is no limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def _scale_pool(size: PoolLimits, share: float) -> PoolLimits:
    return PoolLimits(
        *(_scale(count, share) for count in (size.workers, size.start, size.min_permits, size.max_permits))
    )


def _scale(count: int, share: float) -> int:
    return max(1, int(count * share))


def _settings_pools(settings: Settings) -> dict[Kind, PoolLimits]:
    """What the settings say of each pool: a number is kept to, ``auto`` is a beginning."""
    asked = {
        Kind.ARCHIVE: settings.archive_concurrency,
        Kind.QUICKLOOK: settings.quicklook_concurrency,
        Kind.GEOJSON: settings.geojson_concurrency,
    }
    return {kind: _size(kind, workers, settings.connections) for kind, workers in asked.items()}


def _size(kind: Kind, asked: object, connections: int) -> PoolLimits:
    start, most = (asked, asked) if isinstance(asked, int) else _AUTO[kind]
    least = start if isinstance(asked, int) else 1
    each = connections if kind is Kind.ARCHIVE else 1
    return PoolLimits(most, start, least, max(most, min(most * each, _MOST_CONNECTIONS)))
