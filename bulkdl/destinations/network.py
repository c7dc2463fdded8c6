"""How a destination is reached over the network, and how it sends content."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bulkdl.http.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """
    How a destination is reached over the network. None: the variables of the provider apply.

    Attributes:
        endpoint: The URL of a store that is not that of the provider.
        ca_file: PEM file with certificates that are trusted in addition to those of the system.
        path_style: Whether the bucket is in the path of a URL instead of its host.
        allow_http: Whether requests without TLS are allowed beyond this machine.
    """

    endpoint: str | None = None
    region: str | None = None
    ca_file: Path | None = None
    path_style: bool | None = None
    allow_http: bool = False


class UploadMonitor(Protocol):
    """Limits the bandwidth of uploads, and gets their progress."""

    async def acquire(self, size_bytes: int) -> None:
        """Wait until *size_bytes* may be sent."""

    def sent(self, key: str, offset_bytes: int, total_bytes: int, new_bytes: int) -> None:
        """*new_bytes* were passed to the client; *offset_bytes* of *total_bytes* are sent. Does not raise."""


class NullUploadMonitor:
    """Has no limit and ignores the progress."""

    async def acquire(self, size_bytes: int) -> None:
        """Return at once."""

    def sent(self, key: str, offset_bytes: int, total_bytes: int, new_bytes: int) -> None:
        """Ignore the progress."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """
    How a destination sends content over the network.

    Attributes:
        max_uploads: Maximum number of concurrent uploads.
        memory_bytes: The memory that all uploads share.
        verification: What is compared after an upload: ``size`` (and version), ``read`` (the content) or
            ``none``.
        retry_policy: When a failed upload is repeated.
        client: How the destination is reached.
        monitor: Limits the bandwidth, and gets the progress.
        stall_timeout_s: Time without progress after which an upload is repeated. It is longer than the
            timeout of a request, whose retry does not send the whole file again.
    """

    max_uploads: int = 64
    memory_bytes: int = 256 << 20
    verification: str = "size"
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    client: ClientOptions = field(default_factory=ClientOptions)
    monitor: UploadMonitor = field(default_factory=NullUploadMonitor)
    stall_timeout_s: float = 660.0
