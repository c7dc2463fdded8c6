"""
Settings from their four places, and for each key the place that won:
defaults < file < ``BULKDL_`` variables < flags.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bulkdl.errors import ConfigError
from bulkdl.settings.model import ProjectTable, Settings
from bulkdl.settings.names import Names
from bulkdl.settings.problems import config_error

PREFIX = "BULKDL_"
# Tables; BULKDL_PROJECT selects among projects and is read by the command line.
_FILE_ONLY = frozenset({"names", "project"})
# Variables of flags that are no settings.
_OTHER_VARIABLES = ("CONFIG", "SHARDS", "PROJECT", "JOB", "JOBS_FILE", "FORMAT", "DRY_RUN")


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    The settings and where each came from.

    Attributes:
        sources: Key (a template's is ``names.job``) → ``default``, ``file PATH``, ``env NAME``, ``flag --x``.
        warnings: Variables that look like a misspelt setting, one line each.
    """

    settings: Settings
    sources: dict[str, str]
    warnings: tuple[str, ...] = ()


def load_settings(
    flags: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    env: Mapping[str, str] = os.environ,
) -> Loaded:
    """
    Read the settings from all their places.

    A flag that is None was not given. ``BULKDL_CONFIG`` names the file when *config_file* is None.

    Raises:
        ConfigError: It names the flag, the variable, or file and key, and what was expected there.
    """
    if config_file is None and env.get(f"{PREFIX}CONFIG"):
        config_file = Path(env[f"{PREFIX}CONFIG"])
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if config_file is not None:
        values = read_file(config_file)
        sources = dict.fromkeys(_flat(values), f"file {config_file}")
    for key, name in variables().items():
        if env.get(name, "").strip():
            values[key], sources[key] = env[name], f"env {name}"
    for key, value in (flags or {}).items():
        if value is not None:
            values[key], sources[key] = value, f"flag --{key.replace('_', '-')}"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise config_error(error, sources) from None
    return Loaded(settings, {key: sources.get(key, "default") for key in all_keys()}, _misspelt(env))


def all_keys() -> list[str]:
    """Every key, in the model's order; templates as ``names.job``."""
    top = [key for key in Settings.model_fields if key != "names"]
    return [*top, *(f"names.{key}" for key in Names.model_fields)]


def shown(value: object) -> str:
    """*value* as one would write it in a flag; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (frozenset, set)):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, tuple):
        return ",".join(value.id if isinstance(value, ProjectTable) else str(value) for value in value)
    return str(value)


def variables() -> dict[str, str]:
    """Key → its variable."""
    return {key: f"{PREFIX}{key.upper()}" for key in Settings.model_fields if key not in _FILE_ONLY}


def read_file(path: Path) -> dict[str, Any]:
    """
    The raw keys of a TOML file; key files named in it are taken relative to its folder.

    Raises:
        ConfigError: The file is missing, unreadable, or no TOML.
    """
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), "expected UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise _broken(path, error) from error
    for table in values["project"] if isinstance(values.get("project"), list) else ():
        if isinstance(table, dict) and isinstance(table.get("api_key_file"), str):
            table["api_key_file"] = path.parent / Path(table["api_key_file"]).expanduser()
    return values


def _broken(path: Path, error: tomllib.TOMLDecodeError) -> ConfigError:
    message, _, place = str(error).partition(" (at ")
    line = place.removeprefix("line ").split(",")[0]
    where = f"{path}:{line}" if line.isdigit() else f"{path}: at its end"
    return ConfigError(where, f"broken TOML: {message}")


def _flat(values: Mapping[str, Any]) -> list[str]:
    names = values.get("names")
    nested = [f"names.{key}" for key in names] if isinstance(names, dict) else []
    return [*values, *nested]


def _misspelt(env: Mapping[str, str]) -> tuple[str, ...]:
    """
    Variables close to one of ours. Unknown ones are no error: Kubernetes sets
    ``BULKDL_SERVICE_HOST`` and the like for a service of that name.
    """
    known = {*variables().values(), *(f"{PREFIX}{name}" for name in _OTHER_VARIABLES)}
    lines = []
    for name in sorted(set(env) - known):
        near = get_close_matches(name, known, n=1, cutoff=0.88) if name.startswith(PREFIX) else []
        if near:
            lines.append(f"{name} is no setting; did you mean {near[0]}?")
    return tuple(lines)
