"""The options of a run for uploads to its destination."""

from __future__ import annotations

from bulkdl.destinations.interfaces import ClientOptions, UploadOptions
from bulkdl.settings import Settings
from bulkdl.sources.sessions import retry_policy

_MAX_UPLOADS = 64


def upload_options(settings: Settings) -> UploadOptions:
    """Return the options of *settings*. Failed uploads are repeated like failed downloads."""
    return UploadOptions(
        max_uploads=_MAX_UPLOADS if settings.uploads == "auto" else settings.uploads,
        memory_bytes=settings.upload_memory,
        verification=settings.verify_uploads,
        retry_policy=retry_policy(settings),
        client=ClientOptions(**settings.object_store.model_dump()),
    )
