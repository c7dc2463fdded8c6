"""
The options that commands share. Each that is a setting has its help and default from the model.

Values stay text here: the settings read them, so that a flag, a variable and a key that are wrong
are told in the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from bulkdl.settings import Settings, format_setting
from bulkdl.settings.load import PREFIX

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def _setting(*names: str, metavar: str, many: bool = False) -> Decorator[F]:
    key = names[-1].removeprefix("--").replace("-", "_")
    field = Settings.model_fields[key]
    default = format_setting(key, field.get_default(call_default_factory=True))
    extra = f"{PREFIX}{key.upper()}" + (f"; default {default}" if default else "")
    text = f"{field.description}  [{extra}]"
    return click.option(
        *names, key, metavar=metavar, multiple=many, default=None, help=text, callback=_join if many else None
    )


def _join(_context: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) or None


def _split(_context: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Variables hold several ids with commas or white space between, and so may a flag."""
    return tuple(part for value in values for part in value.replace(",", " ").split())


def _ids(*names: str, metavar: str, text: str) -> Decorator[F]:
    variable = PREFIX + names[-1].removeprefix("--").upper()
    return click.option(
        *names,
        f"{names[-1].removeprefix('--')}_ids",
        metavar=metavar,
        multiple=True,
        envvar=variable,
        callback=_split,
        help=f"{text}; repeatable  [{variable}]",
    )


def _stack(*decorators: Callable[[Any], Any]) -> Decorator[F]:
    """One decorator from several; ``--help`` lists them in this order."""

    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


selection: Decorator[Any] = _stack(
    _ids("-p", "--project", metavar="ID", text="only this project; without any, every project in the config"),
    _ids("--job", metavar="ID", text="only this job, as JOB or PROJECT/JOB"),
    click.option(
        "-i",
        "--jobs-file",
        metavar="FILE|-",
        envvar=f"{PREFIX}JOBS_FILE",
        help=f"only the jobs in this file, one JOB or PROJECT/JOB a line, # comments  [{PREFIX}JOBS_FILE]",
    ),
    _setting("--since", metavar="WHEN"),
    _setting("--since-overlap", metavar="DURATION"),
    _setting("--until", metavar="WHEN"),
    _setting("--status", metavar="STATUS", many=True),
    _setting("--mode", metavar="MODE"),
    _setting("--name", metavar="GLOB"),
    _setting("--workflow", metavar="ID"),
    _setting("--only", metavar="KIND,…", many=True),
    _setting("--scope", metavar="LEVEL,…", many=True),
    _setting("--shard", metavar="K/N|auto"),
)

output: Decorator[Any] = _setting("-o", "--output", metavar="DIR")

pools: Decorator[Any] = _stack(
    _setting("--archive-concurrency", metavar="N|auto"),
    _setting("--connections", metavar="N"),
    _setting("--quicklook-concurrency", metavar="N|auto"),
    _setting("--geojson-concurrency", metavar="N|auto"),
    _setting("--list-concurrency", metavar="N"),
    _setting("--durability", metavar="full|batch|none"),
    _setting("--rate", metavar="REQ_PER_S"),
    _setting("--burst", metavar="N"),
    _setting("--bwlimit", metavar="BYTES_PER_S|TIMETABLE"),
    _setting("--max-duration", metavar="DURATION"),
    _setting("--max-transfer", metavar="BYTES"),
    _setting("--speed-limit", metavar="BYTES_PER_S"),
    _setting("--speed-time", metavar="S"),
    _setting("--retries", metavar="N"),
    _setting("--shutdown-timeout", metavar="S"),
)

outside: Decorator[Any] = _stack(
    _setting("--listen", metavar="HOST:PORT"),
    _setting("--metrics-file", metavar="FILE"),
)

common: Decorator[Any] = _stack(
    click.option("-c", "--config", metavar="FILE", help=f"settings in TOML  [{PREFIX}CONFIG]"),
    _setting("--api-url", metavar="URL"),
    _setting("--proxy", metavar="URL|off"),
    _setting("--log-format", metavar="auto|console|json"),
    _setting("--progress", metavar="auto|never"),
    click.option(
        "-v", "--verbose", "louder", count=True, help=f"more logs; twice for everything  [{PREFIX}VERBOSE]"
    ),
    click.option("-q", "--quiet", "quieter", count=True, help="fewer logs; twice for errors only"),
)

result_format: Decorator[Any] = click.option(
    "--format",
    "result_format",
    type=click.Choice(["table", "json"]),
    default="table",
    envvar=f"{PREFIX}FORMAT",
    help=f"what stdout gets  [{PREFIX}FORMAT; default table]",
)
