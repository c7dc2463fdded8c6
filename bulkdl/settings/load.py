"""
Read the settings from their four sources and record the effective source of each key:
defaults < file < ``BULKDL_`` variables < flags.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bulkdl.errors import ConfigError
from bulkdl.settings import parsers
from bulkdl.settings.errors import config_error, suggest_variable
from bulkdl.settings.field_types import Unit
from bulkdl.settings.kinds import SHORTHANDS, KindTable, describe_conflict, given_keys, table_keys
from bulkdl.settings.model import Settings
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.settings.tables import AccountTable, ProjectTable

PREFIX = "BULKDL_"
# Tables. BULKDL_PROJECT selects projects; the command line reads it.
_FILE_ONLY = frozenset(
    {
        "accounts",
        "kinds",
        "notify",
        "object_store",
        "path_templates",
        "processor_settings",
        "projects",
        "source_settings",
    }
)
# Flags whose name is not the key with hyphens.
_FLAGS = {"processors": "--processor"}
# Variables of flags that are not settings.
_OTHER_VARIABLES = (
    *(
        "CONFIG",
        "SHARDS",
        "PROJECT",
        "JOB",
        "COLLECTION",
        "JOBS_FILE",
        "REASON",
        "FORMAT",
        "DRY_RUN",
        "FAILURES",
    ),
    *("DEEP", "REPAIR", "REBUILD", "VERIFY_WORKERS", "DEMO_JOBS", "WEBHOOK_URL"),
)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """
    The settings and the source of each value.

    Attributes:
        sources: Key (``path_templates.job`` for a template) → ``default``, ``file PATH``, ``env NAME``,
            ``flag --x``.
        warnings: One line for each variable that looks like a misspelt setting.
    """

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...] = ()


def load_settings(
    flags: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> LoadedSettings:
    """
    Read the settings from all sources.

    A flag that is None was not given. ``BULKDL_CONFIG`` names the file when *config_file* is None.

    Raises:
        ConfigError: A value is invalid. The error names the flag, the variable, or the file and the key.
    """
    if config_file is None and env.get(f"{PREFIX}CONFIG"):
        config_file = Path(env[f"{PREFIX}CONFIG"])
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if config_file is not None:
        values = read_file(config_file)
        _check_shorthands(values, config_file)
        sources = dict.fromkeys(_flatten_keys(values), f"file {config_file}")
    for key, name in variable_names().items():
        if env.get(name, "").strip():
            values[key], sources[key] = env[name], f"env {name}"
    for key, value in (flags or {}).items():
        if value is not None:
            values[key], sources[key] = value, f"flag {flag_name(key)}"
    _drop_overridden(values, sources)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise config_error(error, sources) from None
    _share_sources(sources)
    return LoadedSettings(
        settings, {key: sources.get(key, "default") for key in all_keys()}, _find_misspelt_variables(env)
    )


def _check_shorthands(values: Mapping[str, Any], path: Path) -> None:
    for kind, name in given_keys(values):
        if SHORTHANDS.get((kind, name)) in values:
            raise ConfigError(str(path), describe_conflict(kind, name))


def _drop_overridden(values: dict[str, Any], sources: dict[str, str]) -> None:
    """Remove the keys of tables in the file whose shorthand is a variable or a flag."""
    for kind, name in given_keys(values):
        if SHORTHANDS.get((kind, name)) in sources:
            del values["kinds"][kind][name], sources[f"kinds.{kind}.{name}"]


def _share_sources(sources: dict[str, str]) -> None:
    """Enter the source of each key of a table also for its shorthand, and the other way round."""
    for (kind, name), shorthand in SHORTHANDS.items():
        key = f"kinds.{kind}.{name}"
        source = sources.get(key) or sources.get(shorthand)
        if source is not None:
            sources[key] = sources[shorthand] = source


def all_keys() -> list[str]:
    """Return all keys; those of tables as ``kinds.archive.concurrency`` and ``path_templates.job``."""
    top = [key for key in Settings.model_fields if key not in ("kinds", "path_templates")]
    kinds = [f"kinds.{kind}.{name}" for kind, name in table_keys()]
    return [*top, *kinds, *(f"path_templates.{key}" for key in PathTemplates.model_fields)]


def format_setting(key: str, value: object) -> str:
    """Write the *value* of a setting as in a flag; durations and sizes with their unit."""
    table, _, name = key.rpartition(".")
    fields = KindTable.model_fields if table.startswith("kinds.") else Settings.model_fields
    field = fields.get(name if table else key)
    if field is not None and isinstance(value, (int, float)):
        if Unit.DURATION in field.metadata:
            return parsers.write_duration(value)
        if Unit.SIZE in field.metadata:
            return parsers.write_size(int(value))
    return format_value(value)


def format_value(value: object) -> str:
    """Write *value* as in a flag; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (frozenset, set)):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, dict):
        return ",".join(sorted(value))
    if isinstance(value, tuple):
        return ",".join(map(_format_element, value))
    return str(value)


def flag_name(key: str) -> str:
    """Return the flag of a key."""
    return _FLAGS.get(key) or f"--{key.replace('_', '-')}"


def _format_element(value: object) -> str:
    """Write one element of a list; a table as what identifies it."""
    if isinstance(value, ProjectTable):
        return value.id
    return value.name if isinstance(value, AccountTable) else str(value)


def variable_names() -> dict[str, str]:
    """Return the variable of each key."""
    return {key: f"{PREFIX}{key.upper()}" for key in Settings.model_fields if key not in _FILE_ONLY}


def read_file(path: Path) -> dict[str, Any]:
    """
    Read the raw keys of a TOML file. Paths of key files are relative to the directory of the file.

    Raises:
        ConfigError: The file is not found, not readable, or not valid TOML.
    """
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "expected UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise _invalid_toml(path, error) from error
    _resolve_files(values.get("projects"), "api_key_file", path.parent)
    _resolve_files(values.get("accounts"), "password_file", path.parent)
    _resolve_files([values.get("notify")], "header_file", path.parent)
    _resolve_files([values.get("object_store")], "ca_file", path.parent)
    return values


def _resolve_files(tables: object, key: str, directory: Path) -> None:
    """Make the paths under *key* in *tables* relative to *directory*, unless they start with a tilde."""
    for table in tables if isinstance(tables, list) else ():
        if isinstance(table, dict) and isinstance(table.get(key), str):
            file = Path(table[key])
            if not file.parts[:1] or not file.parts[0].startswith("~"):
                table[key] = directory / file


def _invalid_toml(path: Path, error: tomllib.TOMLDecodeError) -> ConfigError:
    message, _, position = str(error).partition(" (at ")
    line = position.removeprefix("line ").split(",")[0]
    where = f"{path}:{line}" if line.isdigit() else f"{path}: at the end"
    return ConfigError(where, f"invalid TOML: {message}")


def _flatten_keys(values: Mapping[str, Any]) -> list[str]:
    templates = values.get("path_templates")
    nested = [f"path_templates.{key}" for key in templates] if isinstance(templates, dict) else []
    kinds = [f"kinds.{kind}.{name}" for kind, name in given_keys(values)]
    return [*values, *nested, *kinds]


def _find_misspelt_variables(env: Mapping[str, str]) -> tuple[str, ...]:
    """
    Report unknown variables that resemble a variable of bulkdl.

    An unknown variable is not an error: Kubernetes sets ``BULKDL_SERVICE_HOST`` and similar variables for a
    service with the name bulkdl.
    """
    known = {*variable_names().values(), *(f"{PREFIX}{name}" for name in _OTHER_VARIABLES)}
    unknown = [name for name in sorted(set(env) - known) if name.startswith(PREFIX)]
    suggestions = {name: suggest_variable(name, known, PREFIX) for name in unknown}
    return tuple(
        f"unknown setting {name}; did you mean {near}?" for name, near in suggestions.items() if near
    )
