"""One ConfigError from pydantic's list of complaints: the place, the key, what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bulkdl.errors import ConfigError
from bulkdl.settings.model import ProjectTable, Settings
from bulkdl.settings.names import Names

_SHOWN = 60


def config_error(error: ValidationError, sources: Mapping[str, str]) -> ConfigError:
    """The first complaint in *error*, with the place that gave the value; *sources* as in ``Loaded``."""
    complaints = error.errors(include_url=False, include_context=False)
    first = complaints[0]
    problem = _problem(first)
    if len(complaints) > 1:
        problem += f" (and {len(complaints) - 1} more)"
    return ConfigError(_where(first["loc"], sources), problem)


def _where(loc: tuple[int | str, ...], sources: Mapping[str, str]) -> str:
    key = _key(loc)
    top = str(loc[0]) if loc else ""
    source = sources.get(".".join(map(str, loc[:2])), sources.get(top, "default"))
    kind, _, name = source.partition(" ")
    if kind == "file":
        return f"{name}: {key}"
    return name or key or "settings"


def _key(loc: tuple[int | str, ...]) -> str:
    """``("project", 0, "id")`` → ``project[1].id``, counting tables from 1 as people do."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text


def _problem(complaint: ErrorDetails) -> str:
    if complaint["type"] == "extra_forbidden":
        return _unknown(complaint["loc"])
    text = complaint["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    text = text[:1].lower() + text[1:]
    given = complaint["input"]
    if complaint["type"] == "missing" or isinstance(given, (dict, list, tuple)) or "password" in text:
        return text
    shown = str(given)
    return f"{text}, got {shown[:_SHOWN]!r}{'…' if len(shown) > _SHOWN else ''}"


def _unknown(loc: tuple[int | str, ...]) -> str:
    models: dict[str, type[BaseModel]] = {"names": Names, "project": ProjectTable}
    model = models.get(str(loc[0]), Settings) if len(loc) > 1 else Settings
    key = str(loc[-1])
    near = get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
    return f"unknown key; did you mean {near[0]}?" if near else "unknown key"
