"""
The sources by name: those of bulkdl, and those of other installed distributions.

A distribution registers a ``SourceType`` under the entry point group ``bulkdl.sources``. The name of the
entry point is the name of the source. A source is imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import cast

from bulkdl.errors import ConfigError
from bulkdl.log import get_logger
from bulkdl.settings import CredentialSet, Settings
from bulkdl.source_spec import find_source, load_installed_source, source_names
from bulkdl.sources.interfaces import SourceLayout, SourceType

log = get_logger(__name__)

_BUILT_IN = {
    "jobs": "bulkdl.sources.up42_jobs.source",
    "storage": "bulkdl.sources.up42_storage.source",
}


def load_source_type(name: str) -> SourceType:
    """
    Return the source *name*. A source of bulkdl takes precedence over an entry point of the same name.

    Raises:
        ConfigError: There is no such source, or its distribution cannot be imported.
    """
    if name in _BUILT_IN:
        return cast("SourceType", import_module(_BUILT_IN[name]).SOURCE_TYPE)
    try:
        find_source(name)
    except ValueError as error:
        raise ConfigError("--source", f"{error}, got {name[:60]!r}") from error
    return cast("SourceType", load_installed_source(name))


def load_credentials(source_types: Iterable[SourceType], settings: Settings) -> CredentialSet:
    """
    Read the credentials of all *source_types* from the environment and the settings.

    Raises:
        ConfigError: Those of a source are missing or incomplete.
    """
    credentials = CredentialSet()
    for source_type in source_types:
        credentials = credentials.merge(source_type.load_credentials(settings))
    return credentials


def source_layout(source_type: SourceType, settings: Settings) -> SourceLayout:
    """Return *source_type* with the path templates of *settings*."""
    return SourceLayout(source_type, source_type.path_templates(settings))


def installed_layouts(settings: Settings) -> tuple[SourceLayout, ...]:
    """Return all installed sources with the path templates of *settings*, those of bulkdl first."""
    layouts = []
    for name in source_names():
        try:
            layouts.append(source_layout(load_source_type(name), settings))
        except ConfigError as error:
            log.warning("source.not_loaded", source=name, problem=error.problem)
    return tuple(layouts)
