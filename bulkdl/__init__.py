"""
Download everything that UP42 holds for projects and accounts: concurrent, resumable, verified, unattended.

``Downloader`` is the entry point of the library. ``bulkdl --help`` describes the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkdl.concurrency import (
        open_stoppable,
        run_in,
        run_stoppable,
    )
    from bulkdl.destinations.interfaces import (
        BaseDestination,
        CompletedFile,
        Destination,
        DestinationOptions,
        FolderStore,
        ObjectInfo,
        Publication,
        check_key,
    )
    from bulkdl.errors import (
        ApiError,
        BulkdlError,
        ConfigError,
        ContentRejectedError,
        DestinationError,
        DownloadError,
        DownloaderStateError,
        LedgerDamagedError,
        LedgerError,
        LedgerMissingError,
        LedgerVersionError,
        NotFoundError,
        OutputLockedError,
        ProcessingError,
        TransferError,
    )
    from bulkdl.failure_policy import (
        ExitCode,
    )
    from bulkdl.graph.downloader import (
        Downloader,
    )
    from bulkdl.graph.run_processors import (
        ProcessorRunner,
        run_processors,
    )
    from bulkdl.listings import (
        ContainerListing,
        ListingFailure,
        PlannedOutput,
        UnreadableContainer,
    )
    from bulkdl.models import (
        CommittedFile,
        Container,
        ContainerRef,
        Digest,
        Outcome,
        Output,
        Reason,
        Result,
        Validator,
    )
    from bulkdl.processors.interfaces import (
        BaseProcessor,
        CompletedOutput,
        DerivedFile,
        FinishedRun,
        LocalFile,
        OutputArea,
        ProcessingSkipped,
        Processor,
        RecordedOutput,
    )
    from bulkdl.report.plan import (
        Plan,
    )
    from bulkdl.report.summary import (
        Summary,
    )
    from bulkdl.selection import (
        Selection,
    )
    from bulkdl.settings import (
        CredentialSet,
        Settings,
    )
    from bulkdl.source_spec import (
        AutoConcurrency,
        ContentChecks,
        KindSpec,
        OutputLabels,
        SourceSpec,
    )
    from bulkdl.sources.interfaces import (
        Source,
        SourceContext,
        SourceType,
    )
    from bulkdl.telemetry.events import (
        Event,
        Reporter,
    )
    from bulkdl.transfer.interfaces import (
        RemoteFile,
    )

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "AutoConcurrency",
    "BaseDestination",
    "BaseProcessor",
    "BulkdlError",
    "CommittedFile",
    "CompletedFile",
    "CompletedOutput",
    "ConfigError",
    "Container",
    "ContainerListing",
    "ContainerRef",
    "ContentChecks",
    "ContentRejectedError",
    "CredentialSet",
    "DerivedFile",
    "Destination",
    "DestinationError",
    "DestinationOptions",
    "Digest",
    "DownloadError",
    "Downloader",
    "DownloaderStateError",
    "Event",
    "ExitCode",
    "FinishedRun",
    "FolderStore",
    "KindSpec",
    "LedgerDamagedError",
    "LedgerError",
    "LedgerMissingError",
    "LedgerVersionError",
    "ListingFailure",
    "LocalFile",
    "NotFoundError",
    "ObjectInfo",
    "Outcome",
    "Output",
    "OutputArea",
    "OutputLabels",
    "OutputLockedError",
    "Plan",
    "PlannedOutput",
    "ProcessingError",
    "ProcessingSkipped",
    "Processor",
    "ProcessorRunner",
    "Publication",
    "Reason",
    "RecordedOutput",
    "RemoteFile",
    "Reporter",
    "Result",
    "Selection",
    "Settings",
    "Source",
    "SourceContext",
    "SourceSpec",
    "SourceType",
    "Summary",
    "TransferError",
    "UnreadableContainer",
    "Validator",
    "__version__",
    "check_key",
    "open_stoppable",
    "run_in",
    "run_processors",
    "run_stoppable",
]

# The module that defines each name. Names without an entry are errors.
_MODULES = {
    "AutoConcurrency": "bulkdl.source_spec",
    "BaseDestination": "bulkdl.destinations.interfaces",
    "BaseProcessor": "bulkdl.processors.interfaces",
    "CommittedFile": "bulkdl.models",
    "CompletedFile": "bulkdl.destinations.interfaces",
    "CompletedOutput": "bulkdl.processors.interfaces",
    "Container": "bulkdl.models",
    "ContainerListing": "bulkdl.listings",
    "ContainerRef": "bulkdl.models",
    "ContentChecks": "bulkdl.source_spec",
    "CredentialSet": "bulkdl.settings",
    "DerivedFile": "bulkdl.processors.interfaces",
    "Destination": "bulkdl.destinations.interfaces",
    "DestinationOptions": "bulkdl.destinations.interfaces",
    "Digest": "bulkdl.models",
    "Downloader": "bulkdl.graph.downloader",
    "Event": "bulkdl.telemetry.events",
    "ExitCode": "bulkdl.failure_policy",
    "FinishedRun": "bulkdl.processors.interfaces",
    "FolderStore": "bulkdl.destinations.interfaces",
    "KindSpec": "bulkdl.source_spec",
    "ListingFailure": "bulkdl.listings",
    "LocalFile": "bulkdl.processors.interfaces",
    "ObjectInfo": "bulkdl.destinations.interfaces",
    "Outcome": "bulkdl.models",
    "Output": "bulkdl.models",
    "OutputArea": "bulkdl.processors.interfaces",
    "OutputLabels": "bulkdl.source_spec",
    "Plan": "bulkdl.report.plan",
    "PlannedOutput": "bulkdl.listings",
    "ProcessingSkipped": "bulkdl.processors.interfaces",
    "Processor": "bulkdl.processors.interfaces",
    "ProcessorRunner": "bulkdl.graph.run_processors",
    "Publication": "bulkdl.destinations.interfaces",
    "Reason": "bulkdl.models",
    "RecordedOutput": "bulkdl.processors.interfaces",
    "RemoteFile": "bulkdl.transfer.interfaces",
    "Reporter": "bulkdl.telemetry.events",
    "Result": "bulkdl.models",
    "Selection": "bulkdl.selection",
    "Settings": "bulkdl.settings",
    "Source": "bulkdl.sources.interfaces",
    "SourceContext": "bulkdl.sources.interfaces",
    "SourceSpec": "bulkdl.source_spec",
    "SourceType": "bulkdl.sources.interfaces",
    "Summary": "bulkdl.report.summary",
    "UnreadableContainer": "bulkdl.listings",
    "Validator": "bulkdl.models",
    "check_key": "bulkdl.destinations.interfaces",
    "open_stoppable": "bulkdl.concurrency",
    "run_in": "bulkdl.concurrency",
    "run_processors": "bulkdl.graph.run_processors",
    "run_stoppable": "bulkdl.concurrency",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import bulkdl.models` does not load the whole package.
    if name not in __all__:
        raise AttributeError(f"module 'bulkdl' has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "bulkdl.errors")), name)
