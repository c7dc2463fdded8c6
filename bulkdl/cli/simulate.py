"""``bulkdl simulate``: the simulator in the foreground, until a signal ends it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from bulkdl.errors import ConfigError

if TYPE_CHECKING:
    from bulkdl.simulator import Simulator

_EXAMPLE = "Example:  bulkdl simulate --jobs 1000 --archive-bytes 1M-50M --port 8042"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class _Sizes(click.ParamType[Any]):
    """``300``, ``64K``, ``2G``, or a range of two such: ``1M-50M``."""

    name = "size[-size]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition("-")
        try:
            sizes = _bytes(low), _bytes(high or low)
        except (ValueError, KeyError):
            self.fail(f"{value!r} is no size; expected e.g. 300, 64K, 2G or 1M-50M", param, ctx)
        if sizes[0] > sizes[1]:
            self.fail(f"{value!r} goes down; expected the smaller size first", param, ctx)
        return sizes


def _bytes(text: str) -> int:
    digits = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = digits[-1:] if digits[-1:].isalpha() else ""
    number = float(digits.removesuffix(unit))
    if number < 0:
        raise ValueError(text)
    return round(number * _UNITS[unit])


_option = partial(click.option, show_envvar=True)


@click.command(
    epilog=_EXAMPLE,
    context_settings={"auto_envvar_prefix": "BULKDL_SIMULATE", "show_default": True},
)
@_option("--host", default="127.0.0.1", help="Address to listen on.")
@_option("--port", default=0, type=click.IntRange(0, 65535), help="Port of the API; 0 takes a free one.")
@_option("--storage-host", default="localhost", help="Host name in signed URLs.")
@_option("--storage-port", default=0, type=click.IntRange(0, 65535), help="Port of the storage.")
@_option("--projects", default=2, type=click.IntRange(1, 4096), help="Projects of the account.")
@_option("--jobs", default=32, type=click.IntRange(0), help="Jobs in all projects together.")
@_option("--seed", default=1, help="The same seed gives the same account.")
@_option("--archive-bytes", default="2000-400000", type=_Sizes(), help="Size of an archive, or a range.")
@_option("--quicklook-bytes", default=0, type=click.IntRange(0), help="Least size of a quicklook.")
@_option("--hostile-names", is_flag=True, help="Some quicklooks have names no file may have.")
@_option("--token-life", default=300.0, help="Seconds until a token expires.")
@_option("--url-life", default=120.0, help="Seconds until a signed URL expires.")
@_option("--page-size", default=100, type=click.IntRange(1), help="Jobs on one page of a list.")
@_option("--latency", default=0.0, type=click.FloatRange(0), help="Seconds before each answer.")
@_option("--strict-storage-auth", is_flag=True, help="Storage answers 400 to an Authorization header.")
@_option("--username", default="someone@example.com", help="User of the password grant.")
@_option("--password", default="correct horse", help="Password of the password grant.")
@_option("--faults", type=click.Path(dir_okay=False, path_type=Path), help="Script of faults, TOML or JSON.")
@click.option("--list-faults", is_flag=True, help="Say which faults there are, and end.")
def simulate(**options: Any) -> int:
    """
    Serve a made-up UP42 account and its storage until interrupted.

    Prints one JSON line with the URLs and the projects' keys as soon as it listens.
    """
    if options["list_faults"]:
        click.echo("\n".join(map(str, simulator_parts().FAULTS.values())))
        return 0
    return asyncio.run(_serve(_build(options)))


def _build(options: dict[str, Any]) -> Simulator:
    parts = simulator_parts()
    try:
        faults = parts.Faults.load(options["faults"]) if options["faults"] else None
    except parts.FaultScriptError as error:
        raise ConfigError("--faults", str(error)) from error
    account = parts.Account(
        **{name: options[name] for name in ("seed", "projects", "jobs", "archive_bytes")},
        **{name: options[name] for name in ("quicklook_bytes", "hostile_names")},
    )
    simulator: Simulator = parts.Simulator(
        account,
        host=options["host"],
        api_port=options["port"],
        storage_host=options["storage_host"],
        storage_port=options["storage_port"],
        token_life_s=options["token_life"],
        url_life_s=options["url_life"],
        page_size=options["page_size"],
        latency_s=options["latency"],
        strict_storage_auth=options["strict_storage_auth"],
        username=options["username"],
        password=options["password"],
        faults=faults,
        seen_limit=0,
    )
    return simulator


def simulator_parts() -> ModuleType:
    """Return the simulator's package, or end with one line: it is an extra, for it needs Pillow."""
    try:
        return import_module("bulkdl.simulator")
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        problem = "it draws pictures and needs Pillow: pip install 'bulkdl[simulator]'"
        raise ConfigError("the simulator", problem) from error


async def _serve(simulator: Simulator) -> int:
    """Until SIGINT or SIGTERM; the exit code that goes with it."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    try:
        async with simulator:
            _announce(simulator)
            return 128 + await signals.get()
    except OSError as error:
        raise ConfigError("--port", f"cannot listen: {error.strerror or error}") from error


def _announce(simulator: Simulator) -> None:
    projects = [{"id": project.id, "api_key": project.api_key} for project in simulator.projects]
    line = {"api_url": simulator.api_url, "storage_url": simulator.storage_url, "projects": projects}
    click.echo(json.dumps(line))
    sys.stdout.flush()
