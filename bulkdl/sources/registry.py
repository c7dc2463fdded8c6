"""
The sources by name: those of bulkdl, and those of other installed distributions.

A distribution registers a ``SourceType`` under the entry point group ``bulkdl.sources``. The name of the
entry point is the name of the source. A source is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from bulkdl.errors import ConfigError
from bulkdl.settings import Settings
from bulkdl.source_spec import GROUP, load_extension
from bulkdl.sources.interfaces import SourceLayout, SourceType

_BUILT_IN = {
    "jobs": "bulkdl.sources.up42_jobs.source_type",
    "storage": "bulkdl.sources.up42_storage.source_type",
}


def source_names() -> tuple[str, ...]:
    """Return the names of all installed sources."""
    return tuple(dict.fromkeys((*_BUILT_IN, *sorted(entry.name for entry in entry_points(group=GROUP)))))


def load_source_type(name: str) -> SourceType:
    """
    Return the source *name*. A source of bulkdl takes precedence over an entry point of the same name.

    Raises:
        ConfigError: There is no such source, or its distribution cannot be imported.
    """
    if name in _BUILT_IN:
        return cast("SourceType", import_module(_BUILT_IN[name]).SOURCE_TYPE)
    try:
        return cast("SourceType", load_extension(name))
    except KeyError:
        names = ", ".join(source_names())
        raise ConfigError("--source", f"{name[:60]!r} is not installed; expected one of {names}") from None
    except ValueError as error:
        raise ConfigError(f"--source {name}", str(error)) from error


def source_layout(source_type: SourceType, settings: Settings) -> SourceLayout:
    """Return *source_type* with the path templates of *settings*."""
    return SourceLayout(source_type, source_type.path_templates(settings))


def built_in_layouts(settings: Settings) -> tuple[SourceLayout, ...]:
    """Return all sources of bulkdl with the path templates of *settings*."""
    return tuple(source_layout(load_source_type(name), settings) for name in _BUILT_IN)
