"""The options of a run for its remote destination; bandwidth limit and progress of its uploads."""

from __future__ import annotations

from bulkdl.destinations.network import ClientOptions, NullUploadMonitor, UploadMonitor, UploadOptions
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.settings import Settings
from bulkdl.sources.sessions import retry_policy
from bulkdl.state.shared_state import SharedStateOptions
from bulkdl.telemetry.events import Reporter, UploadAdvanced

_MAX_UPLOADS = 64


class RunUploadMonitor:
    """
    Reports the progress of the uploads of a run.

    Attributes:
        bandwidth: The limit of all uploads together. It is not shared with downloads.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.bandwidth = RateLimiter(0, 1)
        self._reporter = reporter

    async def acquire(self, size_bytes: int) -> None:
        await self.bandwidth.acquire(size_bytes)

    def sent(self, key: str, offset_bytes: int, total_bytes: int, new_bytes: int) -> None:
        self._reporter.report(UploadAdvanced(key, offset_bytes, total_bytes, new_bytes))


def upload_options(settings: Settings, monitor: UploadMonitor | None = None) -> UploadOptions:
    """Return the options of *settings*. Failed uploads are repeated like failed downloads."""
    return UploadOptions(
        max_uploads=_MAX_UPLOADS if settings.uploads == "auto" else settings.uploads,
        memory_bytes=settings.upload_memory,
        verification=settings.verify_uploads,
        retry_policy=retry_policy(settings),
        client=ClientOptions(**settings.object_store.model_dump()),
        monitor=monitor or NullUploadMonitor(),
    )


def shared_state_options(settings: Settings) -> SharedStateOptions:
    """Return the options of *settings* for the lease and the snapshots."""
    return SharedStateOptions(
        has_lease=settings.lease == "bucket",
        lease_s=settings.lease_time,
        snapshot_every_s=settings.snapshot_every,
    )
