"""Convert pydantic's validation errors to ConfigError, and suggest the setting for an unknown name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bulkdl.errors import ConfigError
from bulkdl.settings.kinds import KindTable
from bulkdl.settings.model import Settings
from bulkdl.settings.parsers import hide_secret
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.settings.tables import AccountTable, NotifyTable, ObjectStoreTable, ProjectTable

_MAX_SHOWN_CHARS = 60
# Names of earlier versions and of other tools that do not resemble the setting.
_OTHER_NAMES = {
    "archives": "archive_concurrency",
    "enumerators": "list_concurrency",
    "geojson": "geojson_concurrency",
    "grace": "shutdown_timeout",
    "http": "listen",
    "kind": "only",
    "level": "scope",
    "max_attempts": "retries",
    "max_bytes": "max_size",
    "names": "path_templates",
    "overlap": "since_overlap",
    "processor": "processors",
    "quicklooks": "quicklook_concurrency",
    "segment_below_bytes_per_s": "segment_if_slower_than",
    "segment_bytes": "segment_min_size",
}


def config_error(error: ValidationError, sources: Mapping[str, str]) -> ConfigError:
    """Convert the first error and name the source of the value; *sources* as in ``LoadedSettings``."""
    details = error.errors(include_url=False, include_context=False)
    problem = _problem(details[0])
    if len(details) > 1:
        problem += f" (and {len(details) - 1} more)"
    loc = details[0]["loc"]
    return ConfigError(_where(loc[:-1] if loc[-1:] == ("[key]",) else loc, sources), problem)


def suggest_setting(name: str, candidates: Collection[str] = tuple(Settings.model_fields)) -> str | None:
    """Return the key in *candidates* that the user probably meant with *name*."""
    for spelling in (name, f"{name}s"):
        if _OTHER_NAMES.get(spelling) in candidates:
            return _OTHER_NAMES[spelling]
    near = get_close_matches(name, candidates, n=1, cutoff=0.6)
    return near[0] if near else None


def suggest_variable(name: str, candidates: Collection[str], prefix: str) -> str | None:
    """
    Return the variable in *candidates* that the user probably meant with *name*.

    The match is stricter than in ``suggest_setting``, because other programs use the same prefix.
    """
    key = name.removeprefix(prefix).lower()
    if f"{prefix}{_OTHER_NAMES.get(key, '').upper()}" in candidates:
        return f"{prefix}{_OTHER_NAMES[key].upper()}"
    longer = sorted(variable for variable in candidates if variable.startswith(f"{name}_"))
    near = longer or get_close_matches(name, candidates, n=1, cutoff=0.88)
    return near[0] if near else None


def suggest_option(name: str, candidates: Collection[str]) -> str | None:
    """Return the command-line option in *candidates* that the user probably meant with *name*."""
    keys = {option.removeprefix("--").replace("-", "_"): option for option in candidates}
    near = suggest_setting(name.lstrip("-").replace("-", "_"), tuple(keys))
    return keys[near] if near else None


def _where(loc: tuple[int | str, ...], sources: Mapping[str, str]) -> str:
    key = _key(loc)
    top = str(loc[0]) if loc else ""
    source = sources.get(".".join(map(str, loc[:2])), sources.get(top, "default"))
    kind, _, name = source.partition(" ")
    if kind == "file":
        return f"{name}: {key}"
    return name or key or "settings"


def _key(loc: tuple[int | str, ...]) -> str:
    """Write ``("projects", 0, "id")`` as ``projects[1].id``; tables are counted from 1."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if text else part
    return text


def _problem(detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        return _unknown(detail["loc"])
    text = detail["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    text = text[:1].lower() + text[1:]
    value_given = detail["input"]
    if detail["type"] == "missing" or isinstance(value_given, (dict, list, tuple)) or "password" in text:
        return text
    value = hide_secret(str(value_given))
    return f"{text}, got {value[:_MAX_SHOWN_CHARS]!r}{'…' if len(value) > _MAX_SHOWN_CHARS else ''}"


def _unknown(loc: tuple[int | str, ...]) -> str:
    models: dict[str, type[BaseModel]] = {
        "kinds": KindTable,
        "path_templates": PathTemplates,
        "projects": ProjectTable,
        "accounts": AccountTable,
        "notify": NotifyTable,
        "object_store": ObjectStoreTable,
    }
    model = models.get(str(loc[0]), Settings) if len(loc) > 1 else Settings
    near = suggest_setting(str(loc[-1]), tuple(model.model_fields))
    return f"unknown setting; did you mean {near}?" if near else "unknown setting"
