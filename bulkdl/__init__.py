"""
Download all outputs of many UP42 jobs: concurrent, resumable, verified, unattended.

``Downloader`` is the entry point of the library. ``bulkdl --help`` describes the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from bulkdl.failure_policy import ExitCode
    from bulkdl.graph.downloader import Downloader
    from bulkdl.graph.run_processors import ProcessorRunner, run_processors
    from bulkdl.models import Outcome, Output, Reason, Result
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
    from bulkdl.report.plan import Plan
    from bulkdl.report.summary import Summary
    from bulkdl.selection import Selection
    from bulkdl.settings import CredentialSet, Settings
    from bulkdl.telemetry.events import Event, Reporter

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "BaseProcessor",
    "BulkdlError",
    "CompletedOutput",
    "ConfigError",
    "ContentRejectedError",
    "CredentialSet",
    "DerivedFile",
    "DestinationError",
    "DownloadError",
    "Downloader",
    "DownloaderStateError",
    "Event",
    "ExitCode",
    "FinishedRun",
    "LedgerDamagedError",
    "LedgerError",
    "LedgerMissingError",
    "LedgerVersionError",
    "LocalFile",
    "NotFoundError",
    "Outcome",
    "Output",
    "OutputArea",
    "OutputLockedError",
    "Plan",
    "ProcessingError",
    "ProcessingSkipped",
    "Processor",
    "ProcessorRunner",
    "Reason",
    "RecordedOutput",
    "Reporter",
    "Result",
    "Selection",
    "Settings",
    "Summary",
    "TransferError",
    "__version__",
    "run_processors",
]

# The module that defines each name. Names without an entry are errors.
_MODULES = {
    "BaseProcessor": "bulkdl.processors.interfaces",
    "CompletedOutput": "bulkdl.processors.interfaces",
    "CredentialSet": "bulkdl.settings",
    "DerivedFile": "bulkdl.processors.interfaces",
    "Downloader": "bulkdl.graph.downloader",
    "Event": "bulkdl.telemetry.events",
    "ExitCode": "bulkdl.failure_policy",
    "FinishedRun": "bulkdl.processors.interfaces",
    "LocalFile": "bulkdl.processors.interfaces",
    "Outcome": "bulkdl.models",
    "Output": "bulkdl.models",
    "OutputArea": "bulkdl.processors.interfaces",
    "Plan": "bulkdl.report.plan",
    "ProcessingSkipped": "bulkdl.processors.interfaces",
    "Processor": "bulkdl.processors.interfaces",
    "ProcessorRunner": "bulkdl.graph.run_processors",
    "Reason": "bulkdl.models",
    "RecordedOutput": "bulkdl.processors.interfaces",
    "Reporter": "bulkdl.telemetry.events",
    "Result": "bulkdl.models",
    "Selection": "bulkdl.selection",
    "Settings": "bulkdl.settings",
    "Summary": "bulkdl.report.summary",
    "run_processors": "bulkdl.graph.run_processors",
}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import bulkdl.models` does not load the whole package.
    if name not in __all__:
        raise AttributeError(f"module 'bulkdl' has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "bulkdl.errors")), name)
