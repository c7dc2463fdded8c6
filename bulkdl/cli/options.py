"""
Define the options that several commands share. Options for settings get help and default from the settings.

The settings parse the values, so that an invalid flag, variable or key results in the same message. A command
accepts all options of a decorator. Options without effect on the command are hidden from its help.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from bulkdl.cli.help import Group, GroupedOption
from bulkdl.settings import Settings, format_setting
from bulkdl.settings.load import PREFIX

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

option = partial(click.option, cls=GroupedOption)


def _setting(
    *names: str, metavar: str, group: Group, key: str = "", many: bool = False, hidden: bool = False
) -> Decorator[Any]:
    key = key or _key(names[-1])
    field = Settings.model_fields[key]
    default = format_setting(key, field.get_default(call_default_factory=True))
    return option(
        *names,
        key,
        metavar=metavar,
        multiple=many,
        default=None,
        help=f"{field.description}  [default: {default}]" if default else field.description,
        callback=_join if many else None,
        group=group,
        hidden=hidden,
    )


def _key(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _join(_context: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) or None


def _split(_context: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Split a list of IDs at commas and white space."""
    return tuple(item for value in values for item in value.replace(",", " ").split())


def _ids(*names: str, metavar: str, text: str) -> Decorator[F]:
    return option(
        *names,
        f"{_key(names[-1])}_ids",
        metavar=metavar,
        multiple=True,
        envvar=PREFIX + _key(names[-1]).upper(),
        callback=_split,
        help=f"{text}; repeatable",
        group=Group.SELECTION,
    )


def _stack(*decorators: Callable[[Any], Any]) -> Decorator[F]:
    """Combine *decorators*; ``--help`` lists the options in this order."""

    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


_select = partial(_setting, group=Group.SELECTION)
_concurrency = partial(_setting, group=Group.CONCURRENCY)
_limit = partial(_setting, group=Group.LIMITS)
_monitor = partial(_setting, group=Group.MONITORING)

workspace: Decorator[Any] = _select("--workspace", metavar="ID", many=True)
selection: Decorator[Any] = _stack(
    _select("--source", metavar="auto|NAME,…"),
    _ids(
        "-p",
        "--project",
        metavar="ID",
        text="only this project (source jobs); by default all in the config file",
    ),
    _ids(
        "--job", metavar="ID", text="only this job, as JOB or PROJECT/JOB; or the results of a processing job"
    ),
    _ids("--collection", metavar="ID", text="only this delivery (STAC collection), source storage"),
    workspace,
    _select("--order", metavar="ID", many=True),
    option(
        "-i",
        "--jobs-file",
        metavar="FILE|-",
        envvar=f"{PREFIX}JOBS_FILE",
        help="only the jobs or deliveries in this file: one ID or SCOPE/ID per line, # starts a comment",
        group=Group.SELECTION,
    ),
    _select("--since", metavar="WHEN"),
    _select("--since-overlap", metavar="DURATION"),
    _select("--until", metavar="WHEN"),
    _select("--status", metavar="STATUS", many=True),
    _select("--mode", metavar="MODE"),
    _select("--name", metavar="GLOB"),
    _select("--workflow", metavar="ID"),
    _select("--only", metavar="KIND,…", many=True),
    _select("--scope", metavar="SCOPE,…", many=True),
    _select("--shard", metavar="K/N|auto"),
)

unpack: Decorator[Any] = _setting("--unpack", metavar="off|keep|replace", group=Group.DESTINATION)


def _catalog(*, hidden: bool = False) -> Decorator[Any]:
    return option(
        "--catalog",
        is_flag=True,
        default=None,
        help=Settings.model_fields["catalog"].description,
        group=Group.DESTINATION,
        hidden=hidden,
    )


catalog: Decorator[Any] = _catalog()
output: Decorator[Any] = _stack(
    _setting("-o", "--output", metavar="DIR|URL", group=Group.DESTINATION),
    _setting("--state", metavar="DIR", group=Group.DESTINATION),
)

_LISTING_ONLY = ("list_concurrency", "rate", "burst", "max_duration", "retries", "shutdown_timeout")


def transfer(*, listing_only: bool = False) -> Decorator[Any]:
    """Return the options of downloads. With *listing_only*, hide the options without effect on lists."""
    settings = (
        partial(_setting, "--durability", metavar="full|batch|none", group=Group.DESTINATION),
        partial(_setting, "--unpack", metavar="off|keep|replace", group=Group.DESTINATION),
        partial(
            _setting,
            "--processor",
            metavar="NAME",
            group=Group.DESTINATION,
            key="processors",
            many=True,
        ),
        partial(_concurrency, "--archive-concurrency", metavar="N|auto"),
        partial(_concurrency, "--quicklook-concurrency", metavar="N|auto"),
        partial(_concurrency, "--geojson-concurrency", metavar="N|auto"),
        partial(_concurrency, "--connections", metavar="N"),
        partial(_concurrency, "--list-concurrency", metavar="N"),
        partial(_setting, "--scratch-limit", metavar="SIZE", group=Group.DESTINATION),
        partial(_concurrency, "--uploads", metavar="N|auto"),
        partial(_concurrency, "--upload-memory", metavar="SIZE"),
        partial(_setting, "--verify-uploads", metavar="size|read|none", group=Group.DESTINATION),
        partial(_setting, "--snapshot-every", metavar="DURATION", group=Group.DESTINATION),
        partial(_setting, "--lease", metavar="bucket|none", group=Group.DESTINATION),
        partial(_limit, "--rate", metavar="N"),
        partial(_limit, "--burst", metavar="N"),
        partial(_limit, "--bwlimit", metavar="SIZE|SCHEDULE"),
        partial(_limit, "--max-duration", metavar="DURATION"),
        partial(_limit, "--max-transfer", metavar="SIZE"),
        partial(_limit, "--speed-limit", metavar="SIZE"),
        partial(_limit, "--speed-time", metavar="DURATION"),
        partial(_limit, "--shutdown-timeout", metavar="DURATION"),
        partial(_setting, "--retries", metavar="N", group=Group.RETRY),
    )
    return _stack(
        _catalog(hidden=listing_only),
        *(make(hidden=listing_only and _key(make.args[0]) not in _LISTING_ONLY) for make in settings),
    )


monitoring: Decorator[Any] = _stack(
    _monitor("--listen", metavar="HOST:PORT"),
    _monitor("--metrics-file", metavar="FILE"),
)


webhook_secret: Decorator[Any] = _setting("--webhook-secret-file", metavar="FILE", group=Group.SERVICE)
service: Decorator[Any] = _stack(
    _setting("--every", metavar="DURATION", group=Group.SERVICE),
    _setting("--at", metavar="HH:MM,…", group=Group.SERVICE, many=True),
    webhook_secret,
    option(
        "--allow-unsigned-webhooks",
        is_flag=True,
        default=None,
        help=Settings.model_fields["allow_unsigned_webhooks"].description,
        group=Group.SERVICE,
    ),
)


def common(*, network: bool = True, logs: bool = True, progress: bool = True) -> Decorator[Any]:
    """
    Return the options of all commands.

    Args:
        network: The command sends requests. Otherwise hide the options for them.
        logs: The command writes logs and shows progress. Otherwise hide the options for them.
        progress: The command shows progress. Otherwise hide its option.
    """
    return _stack(
        _monitor("--log-format", metavar="auto|console|json", hidden=not logs),
        _monitor("--progress", metavar="auto|never", hidden=not (logs and progress)),
        option("-c", "--config", metavar="FILE", help="config file (TOML)"),
        _setting("--api-url", metavar="URL", group=Group.GENERAL, hidden=not network),
        _setting("--region", metavar="eu|sa", group=Group.GENERAL, hidden=not network),
        _setting("--auth-url", metavar="URL", group=Group.GENERAL, hidden=not network),
        _setting("--proxy", metavar="URL|off", group=Group.GENERAL, hidden=not network),
        option("-v", "--verbose", "louder", count=True, help="more log messages; -vv for all"),
        option("-q", "--quiet", "quieter", count=True, help="fewer log messages; -qq for errors only"),
    )


def result_format(*formats: str) -> Decorator[Any]:
    """Return the option for the format of the result on stdout."""
    return option(
        "--format",
        "result_format",
        type=click.Choice(formats),
        default="table",
        show_default=True,
        envvar=f"{PREFIX}FORMAT",
        help="format of the result on stdout",
    )
