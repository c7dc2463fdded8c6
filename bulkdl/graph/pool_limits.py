"""Computes the limits of a run: workers, concurrency and connections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bulkdl.settings import Settings
from bulkdl.source_spec import AutoConcurrency, KindSpec, SourceSpec

_MAX_CONNECTIONS = 64
_LISTING_CONNECTIONS = 8  # for each container that is being listed
_RESERVED_FILES = 48  # interpreter, event loop, ledger, logs, endpoints


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """
    The limits of the pool of one kind.

    Attributes:
        workers: Maximum number of outputs in progress.
        start: Permits at the start of a run.
        min_permits: Minimum number of permits.
        max_permits: Maximum number of permits. For large outputs, a permit is a connection. One output may
            have several connections.
        large: The limits of outputs whose responses announce a large size; None: they are not separated.
            *workers* includes the workers of these outputs.
    """

    workers: int
    start: int
    min_permits: int
    max_permits: int
    large: PoolLimits | None = None

    @property
    def is_adaptive(self) -> bool:
        """Whether the number of permits can change."""
        return self.min_permits < self.max_permits

    @property
    def connections(self) -> int:
        """Maximum number of connections."""
        return self.max_permits + (self.large.connections if self.large else 0)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """
    The maximum number of connections of one source.

    Attributes:
        api: To the API.
        storage: To the storage.
    """

    api: int
    storage: int


@dataclass(frozen=True, slots=True)
class RunLimits:
    """
    Limits of a run that follow from the settings and the limit of open files.

    Attributes:
        pools: By kind.
        connections: By source.
    """

    pools: dict[str, PoolLimits]
    connections: dict[str, ConnectionLimits]

    @property
    def open_files(self) -> int:
        """Maximum number of files that are open at the same time."""
        workers = sum(limits.workers for limits in self.pools.values())
        return sum(limits.api + limits.storage for limits in self.connections.values()) + 2 * workers


def compute_run_limits(settings: Settings, open_file_limit: float, specs: Sequence[SourceSpec]) -> RunLimits:
    """
    Compute the limits of a run of the sources *specs*.

    The limits are those of *settings*. If they need more open files than *open_file_limit* allows, all of
    them are reduced in proportion.
    """
    pools = {kind.name: _pool_limits(kind, settings) for spec in specs for kind in spec.kinds}
    connections = {spec.name: _connection_limits(spec, pools, settings) for spec in specs}
    configured = RunLimits(pools, connections)
    factor = max(0.0, open_file_limit - _RESERVED_FILES) / configured.open_files
    if factor >= 1:
        return configured
    return RunLimits(
        {kind: _scale_pool(limits, factor) for kind, limits in pools.items()},
        {
            source: ConnectionLimits(_scale(limits.api, factor), _scale(limits.storage, factor))
            for source, limits in connections.items()
        },
    )


def get_open_file_limit() -> float:
    """Return how many files this process may open at the same time; infinity if there is no limit."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def _connection_limits(
    spec: SourceSpec, pools: Mapping[str, PoolLimits], settings: Settings
) -> ConnectionLimits:
    """Return the connections that the workers, the listing and the pools of large outputs can use."""
    workers = sum(pools[kind.name].workers for kind in spec.kinds)
    return ConnectionLimits(
        api=workers + _LISTING_CONNECTIONS * settings.list_concurrency,
        storage=sum(
            pools[kind.name].connections for kind in spec.kinds if kind.is_large or kind.is_in_storage
        ),
    )


def _scale_pool(limits: PoolLimits, factor: float) -> PoolLimits:
    return PoolLimits(
        _scale(limits.workers, factor),
        _scale(limits.start, factor),
        _scale(limits.min_permits, factor),
        _scale(limits.max_permits, factor),
        _scale_pool(limits.large, factor) if limits.large else None,
    )


def _scale(count: int, factor: float) -> int:
    return max(1, int(count * factor))


def _pool_limits(kind: KindSpec, settings: Settings) -> PoolLimits:
    """Return the limits that *settings* set: a number is fixed, ``auto`` adapts."""
    concurrency = settings.kinds[kind.name].concurrency
    if isinstance(concurrency, int):
        start = workers = concurrency
    else:
        start, workers = kind.concurrency.start, kind.concurrency.maximum
    if concurrency == "auto" and kind.large_concurrency is not None:
        large = _auto_limits(kind.large_concurrency, settings.connections)
        return PoolLimits(workers + large.workers, start, 1, workers, large)
    connections_per_output = settings.connections if kind.is_large else 1
    max_permits = max(workers, min(workers * connections_per_output, _MAX_CONNECTIONS))
    min_permits = 1 if concurrency == "auto" else start
    return PoolLimits(workers, start, min_permits, max_permits)


def _auto_limits(concurrency: AutoConcurrency, connections: int) -> PoolLimits:
    max_permits = max(concurrency.maximum, min(concurrency.maximum * connections, _MAX_CONNECTIONS))
    return PoolLimits(concurrency.maximum, concurrency.start, 1, max_permits)
