"""``bulkdl config``: show each setting, its value and the source of the value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click
from yarl import URL

from bulkdl.cli import options
from bulkdl.cli.context import read_settings
from bulkdl.cli.help import Command
from bulkdl.cli.render import write_json, write_table
from bulkdl.cli.source_selection import resolve_sources
from bulkdl.errors import ConfigError
from bulkdl.redaction import MASK, redact
from bulkdl.settings import (
    LoadedSettings,
    Settings,
    format_setting,
    format_value,
)
from bulkdl.source_spec import source_spec
from bulkdl.sources.registry import load_source_type

_CREDENTIALS = ("UP42_PROJECT_ID", "UP42_PROJECT_API_KEY", "UP42_USERNAME", "UP42_PASSWORD", "UP42_TOKEN")
_OPEN = ("UP42_PROJECT_ID", "UP42_USERNAME")

_TABLES = frozenset({"kinds", "path_templates"})  # one row for each of their keys


@click.command(
    cls=Command,
    example="BULKDL_ARCHIVE_CONCURRENCY=8 bulkdl config -c config/nightly.toml",
)
@options.output
@options.common()
@options.selection
@options.transfer()
@options.monitoring
@options.result_format("table", "json")
def config(**params: Any) -> int:
    """Show the effective settings and the source of each value. Secrets are masked."""
    loaded = resolve_sources(params, read_settings(params))
    if params["result_format"] == "json":
        write_json(_document(loaded, os.environ))
    else:
        rows = [*_setting_rows(loaded), *_rate_limit_rows(loaded), *_credential_rows(os.environ)]
        write_table(("key", "value", "source"), rows)
    _warn(loaded)
    return 0


def _setting_rows(loaded: LoadedSettings) -> list[tuple[str, str, str]]:
    return [
        (key, redact(format_setting(key, value)) or "-", loaded.sources[key])
        for key, value in _values(loaded.settings).items()
    ]


def _values(settings: Settings) -> dict[str, Any]:
    values = {key: getattr(settings, key) for key in Settings.model_fields if key not in _TABLES}
    kinds = {f"kinds.{kind}.{key}": value for kind, table in settings.kinds.items() for key, value in table}
    return values | kinds | {f"path_templates.{key}": value for key, value in settings.path_templates}


def _sources_by_origin(settings: Settings) -> dict[str, list[str]]:
    """Return the selected sources by API origin. The sources of one origin share its rate limit."""
    found: dict[str, list[str]] = {}
    for name in settings.source_names:
        read_api_url = source_spec(name).read_api_url
        if read_api_url is not None:
            found.setdefault(str(URL(read_api_url(settings)).origin()), []).append(name)
    return found


def _rate_limit_rows(loaded: LoadedSettings) -> list[tuple[str, str, str]]:
    rate, burst = loaded.settings.rate, loaded.settings.burst
    limit = f"{rate:g} requests/s, burst {burst}" if rate else "unlimited"
    return [
        (f"rate_limit.{origin}", f"{limit}: {', '.join(names)}", loaded.sources["rate"])
        for origin, names in _sources_by_origin(loaded.settings).items()
    ]


def _credential_rows(env: Mapping[str, str]) -> list[tuple[str, str, str]]:
    rows = []
    for name in _CREDENTIALS:
        if env.get(name):
            rows.append((name, env[name] if name in _OPEN else MASK, f"env {name}"))
        if env.get(f"{name}_FILE"):
            rows.append((name, MASK, f"env {name}_FILE, file {env[f'{name}_FILE']}"))
    return rows


def _document(loaded: LoadedSettings, env: Mapping[str, str]) -> dict[str, Any]:
    plain = loaded.settings.model_dump(mode="json")
    templates = {f"path_templates.{key}": value for key, value in plain.pop("path_templates").items()}
    tables = plain.pop("kinds").items()
    kinds = {f"kinds.{kind}.{key}": value for kind, table in tables for key, value in table.items()}
    for key in ("processor_settings", "source_settings"):
        plain[key] = sorted(plain[key])  # an extension may keep secrets there
    plain["notify"] = str(loaded.settings.notify) or None  # without secrets
    values = {**plain, "shard": format_value(loaded.settings.shard) or None, **kinds, **templates}
    for key in ("only", "scope"):
        values[key] = sorted(values[key])
    return {
        "settings": {
            key: {"value": redact(value) if isinstance(value, str) else value, "source": loaded.sources[key]}
            for key, value in values.items()
        },
        "rate_limits": [
            {"origin": origin, "sources": names, "rate": plain["rate"], "burst": plain["burst"]}
            for origin, names in _sources_by_origin(loaded.settings).items()
        ],
        "credentials": {
            name: {"value": value, "source": source} for name, value, source in _credential_rows(env)
        },
    }


def _warn(loaded: LoadedSettings) -> None:
    """Print the errors that would stop a run, and probable mistakes. They do not change the exit code."""
    for line in loaded.warnings:
        click.echo(f"bulkdl: {line}", err=True)
    for source in loaded.settings.source_names:
        try:
            load_source_type(source).load_credentials(loaded.settings)
        except ConfigError as error:
            click.echo(f"bulkdl: {error}", err=True)
