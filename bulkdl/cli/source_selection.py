"""
Choose the sources of a command, and read the selection of each of them from the flags.

A flag that only one source knows restricts the run to this source. The same key in the config file is a
filter of its source and does not exclude the others.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bulkdl.errors import ConfigError
from bulkdl.selection import Selection
from bulkdl.settings import LoadedSettings, Settings, choose_sources
from bulkdl.settings.parsers import parse_path
from bulkdl.source_spec import AUTO, SourceSpec, kind_names, source_names, source_spec

# The settings that can be filters of one source.
_FILTERS = ("mode", "name", "only", "order", "scope", "status", "workflow", "workspace")


def resolve_sources(params: Mapping[str, Any], loaded: LoadedSettings) -> LoadedSettings:
    """
    Return *loaded* with the sources of the run instead of ``auto``.

    Raises:
        ConfigError: The flags select from different sources, or from a source that is not chosen.
    """
    settings = loaded.settings
    chosen = choose_sources(settings)
    # The search for sources of other distributions takes a fiftieth of the start of a run.
    specs = _usable_specs() if _has_filters(params, loaded) else [source_spec(name) for name in chosen]
    restricting = _find_restricting_flags(params, loaded, chosen, specs)
    names = tuple(dict.fromkeys(restricting.values()))
    if len(names) > 1:
        flags = " and ".join(f"{flag} ({source})" for flag, source in restricting.items())
        raise ConfigError("--source", f"{flags} select from different sources; start a run for each of them")
    if names and settings.source != AUTO and names[0] not in chosen:
        flag = next(iter(restricting))
        raise ConfigError(
            flag, f"selects from the source {names[0]}, but the source of the run is {chosen[0]}"
        )
    chosen = _with_selected_kinds(names or chosen, settings, specs, is_fixed=bool(names))
    _reject_ambiguous_ids(params, chosen)
    origins = {**loaded.sources, "source": AUTO} if settings.source == AUTO else loaded.sources
    return replace(loaded, settings=settings.model_copy(update={"source": ",".join(chosen)}), sources=origins)


def read_selections(params: Mapping[str, Any], settings: Settings) -> tuple[Selection, ...]:
    """
    Return the selection of each source of *settings* from the flags in *params*.

    Raises:
        ConfigError: An ID is invalid, or the file of ``-i`` cannot be read or contains invalid lines.
    """
    name = params.get("jobs_file")
    lines = _read_lines(name) if name else None
    return tuple(
        Selection.of(
            settings,
            projects=params.get("project_ids", ()),
            jobs=params.get("job_ids", ()),
            collections=params.get("collection_ids", ()),
            jobs_file_lines=lines,
            jobs_file_name="stdin" if name == "-" else str(name),
            source=source,
        )
        for source in choose_sources(settings)
    )


def read_recorded_selections(params: Mapping[str, Any], loaded: LoadedSettings) -> tuple[Selection, ...]:
    """
    Return the selections of a command that uses the ledger only: by default of all installed sources.

    A job ID selects containers that are jobs, because the ledger does not contain the job of a delivery.

    Raises:
        ConfigError: As ``resolve_sources`` and ``read_selections``.
    """
    settings = loaded.settings
    specs = _usable_specs()
    if settings.source == AUTO:
        names_jobs = bool(params.get("job_ids") or params.get("jobs_file"))
        chosen = _job_sources(specs) if names_jobs else [spec.name for spec in specs]
        settings = settings.model_copy(update={"source": ",".join(chosen)})
    resolved = resolve_sources(params, replace(loaded, settings=settings))
    return read_selections(params, resolved.settings)


def _find_restricting_flags(
    params: Mapping[str, Any], loaded: LoadedSettings, chosen: Sequence[str], specs: Sequence[SourceSpec]
) -> dict[str, str]:
    """Return the given flags that only one source knows, with this source."""
    flags = {
        f"--{name}": spec.name
        for spec in specs
        for name in spec.own_filters
        if params.get(f"{name}_ids") or _is_filter_given(name, loaded, has_several=len(chosen) > 1)
    }
    job_ids = params.get("job_ids", ())
    owners = [name for name in _job_sources(specs) if loaded.settings.source == AUTO or name in chosen]
    if owners and job_ids and all("/" in job_id for job_id in job_ids):
        flags["--job"] = owners[0]
    return flags


def _has_filters(params: Mapping[str, Any], loaded: LoadedSettings) -> bool:
    """Return whether a flag or a setting can select outputs of certain sources only."""
    has_ids = any(value for name, value in params.items() if name.endswith("_ids") or name == "jobs_file")
    return has_ids or any(loaded.sources.get(name, "default") != "default" for name in _FILTERS)


def _is_filter_given(name: str, loaded: LoadedSettings, *, has_several: bool) -> bool:
    """Return whether the setting *name* restricts the run. With several sources, a config file does not."""
    origin = loaded.sources.get(name, "default")
    if origin == "default" or not getattr(loaded.settings, name):
        return False
    return not (has_several and origin.startswith("file "))


def _job_sources(specs: Sequence[SourceSpec]) -> list[str]:
    """Return those of *specs* with filters of their own whose containers are jobs, by name."""
    return [
        spec.name for spec in specs if spec.own_filters and spec.read_filters(None).with_job_ids(()) is None
    ]


def _with_selected_kinds(
    chosen: Sequence[str], settings: Settings, specs: Sequence[SourceSpec], *, is_fixed: bool
) -> tuple[str, ...]:
    """
    Return those of *chosen* that have outputs of the selected kinds.

    With ``auto``, another source that has them replaces the chosen ones, unless a flag has fixed the source.
    """
    own = {spec.name: settings.only.intersection(spec.kind_names) for spec in specs}
    found = [source for source in chosen if own.get(source, True)]
    if found:
        return tuple(found)
    others = [source for source, kinds in own.items() if kinds]
    if settings.source == AUTO and not is_fixed and len(others) == 1:
        return tuple(others)
    kinds = ", ".join(kind for kind in kind_names() if kind in settings.only)
    raise ConfigError("--only", f"the source {' or '.join(chosen)} has no outputs of the kind {kinds}")


def _reject_ambiguous_ids(params: Mapping[str, Any], chosen: Sequence[str]) -> None:
    flag = "--job" if params.get("job_ids") else "--jobs-file" if params.get("jobs_file") else None
    if flag is not None and len(chosen) > 1:
        sources = " or ".join(f"--source {source}" for source in chosen)
        raise ConfigError(flag, f"the IDs can belong to several sources; add {sources}")


def _usable_specs() -> list[SourceSpec]:
    """Return the specifications of the installed sources; a source that cannot be imported is left out."""
    specs = []
    for name in source_names():
        try:
            specs.append(source_spec(name))
        except ValueError:
            continue  # choosing it is an error with a message
    return specs


def _read_lines(name: str) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else parse_file("--jobs-file", name).read_bytes()
    except OSError as error:
        raise ConfigError("--jobs-file", f"{name} cannot be read: {error.strerror}") from error
    # Invalid UTF-8 becomes escape sequences. The parser rejects them and names the line.
    return data.decode("utf-8", "backslashreplace").splitlines()


def parse_file(option: str, name: str) -> Path:
    """
    Return the path *name* of *option*.

    Raises:
        ConfigError: It is not a valid path.
    """
    try:
        return parse_path(Path(name))
    except ValueError as error:
        raise ConfigError(option, str(error)) from None
