"""
From what click parsed to settings and a selection.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bulkdl.errors import ConfigError
from bulkdl.selection import Selection
from bulkdl.settings import LoadedSettings, Settings, load_settings
from bulkdl.settings.parsers import parse_path


def settings_from(params: Mapping[str, Any]) -> LoadedSettings:
    """
    The settings, with the flags among *params* on top.

    Raises:
        ConfigError: A flag, a variable or a key is wrong.
    """
    flags = {key: value for key, value in params.items() if key in Settings.model_fields}
    louder = int(params.get("louder", 0)) - int(params.get("quieter", 0))
    if params.get("louder") or params.get("quieter"):
        flags["verbose"] = max(-2, min(louder, 2))
    config = params.get("config")
    return load_settings(flags, _path("--config", config) if config else None)


def selection_from(params: Mapping[str, Any], settings: Settings) -> Selection:
    """
    The selection that flags and settings describe.

    Raises:
        ConfigError: An id is none, or the jobs file cannot be read or holds rubbish.
    """
    name = params.get("jobs_file")
    return Selection.of(
        settings,
        projects=params.get("project_ids", ()),
        jobs=params.get("job_ids", ()),
        jobs_file_lines=_lines(name) if name else None,
        jobs_file_name="stdin" if name == "-" else str(name),
    )


def output_of(settings: Settings) -> Path:
    """
    The output directory.

    Raises:
        ConfigError: None was named.
    """
    if settings.output is None:
        raise ConfigError("--output", "is missing; name the directory that the outputs go to")
    return settings.output


def _path(option: str, name: str) -> Path:
    try:
        return parse_path(Path(name))
    except ValueError as error:
        raise ConfigError(option, str(error)) from None


def _lines(name: str) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if name == "-" else _path("--jobs-file", name).read_bytes()
    except OSError as error:
        raise ConfigError("--jobs-file", f"{name} cannot be read: {error.strerror}") from error
    # Bytes that are no UTF-8 become rubbish, which the parser names with its line.
    return data.decode("utf-8", "backslashreplace").splitlines()
