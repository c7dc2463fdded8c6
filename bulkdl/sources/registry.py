"""
The sources by name: those of bulkdl, and those of other installed distributions.

A distribution registers a ``SourceType`` under the entry point group ``bulkdl.sources``. The name of the
entry point is the name of the source. A source is imported on first use.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from bulkdl.errors import ConfigError
from bulkdl.settings import Settings
from bulkdl.sources.interfaces import SourceLayout, SourceType

GROUP = "bulkdl.sources"

_BUILT_IN = {"jobs": "bulkdl.sources.up42_jobs.source_type"}


def source_names() -> tuple[str, ...]:
    """Return the names of all installed sources."""
    return tuple(dict.fromkeys((*_BUILT_IN, *sorted(entry.name for entry in entry_points(group=GROUP)))))


@cache
def load_source_type(name: str) -> SourceType:
    """
    Return the source *name*. A source of bulkdl takes precedence over an entry point of the same name.

    Raises:
        ConfigError: There is no such source, or its distribution cannot be imported.
    """
    if name in _BUILT_IN:
        return cast("SourceType", import_module(_BUILT_IN[name]).SOURCE_TYPE)
    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise ConfigError(
            "--source", f"{name!r} is not installed; expected one of {', '.join(source_names())}"
        )
    return _load(found)


def source_layout(source_type: SourceType, settings: Settings) -> SourceLayout:
    """Return *source_type* with the path templates of *settings*."""
    return SourceLayout(source_type, source_type.path_templates(settings))


def built_in_layouts(settings: Settings) -> tuple[SourceLayout, ...]:
    """Return all sources of bulkdl with the path templates of *settings*."""
    return tuple(source_layout(load_source_type(name), settings) for name in _BUILT_IN)


def _load(found: EntryPoint) -> SourceType:
    where = f"--source {found.name}"
    try:
        source_type = found.load()
    except Exception as error:  # any error of the import of another distribution
        detail = " ".join(str(error).split())
        raise ConfigError(
            where, f"{found.value} cannot be imported: {type(error).__name__}: {detail}"
        ) from error
    if getattr(source_type, "name", None) != found.name:
        raise ConfigError(where, f"{found.value} is not a source of this name; reinstall its distribution")
    return cast("SourceType", source_type)
