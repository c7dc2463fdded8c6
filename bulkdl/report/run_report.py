"""
Create the run report, which contains selection, settings and result. The state directory stores it.

``run-report.schema.json`` is the JSON Schema, and docs/run-report.md describes the keys. Keys can be added
within a version. If a key is removed or changes its meaning, the version changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from bulkdl import __version__
from bulkdl.report.summary import Summary
from bulkdl.selection import Selection
from bulkdl.settings import Settings

VERSION = 2
MAX_CONTAINERS = 100

# Settings that are part of the selection, do not affect the result, or can contain secrets.
_EXCLUDED_SETTINGS = frozenset(
    {
        "projects",
        "accounts",
        "processor_settings",
        "source_settings",
        "output",
        "state",
        "since",
        "since_overlap",
        "until",
        "status",
        "mode",
        "name",
        "workflow",
        "workspace",
        "order",
    }
    | {"every", "at", "webhook_secret_file", "allow_unsigned_webhooks", "notify"}
    | {"only", "scope", "shard", "log_format", "verbose", "progress", "listen", "metrics_file", "proxy"}
)


def run_report(summary: Summary, selections: Iterable[Selection], settings: Settings) -> dict[str, Any]:
    """Return the report as values for JSON."""
    return {
        "version": VERSION,
        "bulkdl": __version__,
        **summary.as_dict(),
        "stopped_by": int(summary.stopped_by) if summary.stopped_by is not None else None,
        "selections": [_selection(selection) for selection in selections],
        "settings": settings.model_dump(mode="json", exclude=set(_EXCLUDED_SETTINGS)),
    }


def _selection(selection: Selection) -> dict[str, Any]:
    reasons = selection.reasons
    return {
        "source": selection.source,
        "scopes": list(selection.scopes),
        "containers_total": len(selection.containers),
        "containers": [str(ref) for ref in selection.containers[:MAX_CONTAINERS]],
        "since_at": selection.since_at.isoformat() if selection.since_at else None,
        "since_last_s": selection.since_last_s,
        "until_at": selection.until_at.isoformat() if selection.until_at else None,
        "statuses": sorted(selection.statuses),
        "name": selection.name_glob,
        "kinds": sorted(selection.wanted_kinds),
        "filters": selection.filters.as_dict(),
        "shard": str(selection.shard) if selection.shard else None,
        "reasons": sorted(str(reason) if reason else "rejected_file" for reason in reasons)
        if reasons is not None
        else None,
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the report."""
    text = files("bulkdl.report").joinpath("run-report.schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
