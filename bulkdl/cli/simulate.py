"""``bulkdl simulate``: run the simulator in the foreground until a signal stops it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from bulkdl.cli.help import Command
from bulkdl.errors import ConfigError
from bulkdl.settings.parsers import parse_size

if TYPE_CHECKING:
    from bulkdl.simulator import Simulator


class _Sizes(click.ParamType[Any]):
    """Convert a size (``300``, ``64K``, ``2G``) or a range of sizes (``1M-50M``)."""

    name = "size[-size]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition("-")
        try:
            sizes = parse_size(low), parse_size(high or low)
        except ValueError:
            self.fail(
                f"invalid size {value!r}; expected a size such as 300, 64K, 2G or a range such as 1M-50M",
                param,
                ctx,
            )
        if sizes[0] > sizes[1]:
            self.fail(f"invalid range {value!r}; expected the smaller size first", param, ctx)
        return sizes


_option = click.option


@click.command(
    cls=Command,
    variables="Each option can also be set with a variable: --page-size is BULKDL_SIMULATE_PAGE_SIZE.",
    example="bulkdl simulate --jobs 1000 --archive-bytes 1M-50M --port 8042",
    context_settings={"auto_envvar_prefix": "BULKDL_SIMULATE", "show_default": True},
)
@_option("--host", default="127.0.0.1", help="Address to listen on.")
@_option("--port", default=0, type=click.IntRange(0, 65535), help="Port of the API; 0 takes a free one.")
@_option("--storage-host", default="localhost", help="Host name in the signed URLs.")
@_option(
    "--storage-port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port of the storage; 0 takes a free one.",
)
@_option("--projects", default=2, type=click.IntRange(1, 4096), help="Projects of the account.")
@_option("--jobs", default=32, type=click.IntRange(0), help="Jobs of all projects together.")
@_option("--seed", default=1, help="The same seed gives the same account.")
@_option("--archive-bytes", default="2000-400000", type=_Sizes(), help="Size of an archive, or a range.")
@_option("--quicklook-bytes", default=0, type=click.IntRange(0), help="Minimum size of a quicklook in bytes.")
@_option("--hostile-names", is_flag=True, help="Some quicklooks have names that are not valid file names.")
@_option("--token-life", default=300.0, help="Seconds until a token expires.")
@_option("--url-life", default=120.0, help="Seconds until a signed URL expires.")
@_option("--page-size", default=100, type=click.IntRange(1), help="Jobs per page of a list.")
@_option("--latency", default=0.0, type=click.FloatRange(0), help="Seconds before each response.")
@_option(
    "--strict-storage-auth",
    is_flag=True,
    help="The storage returns 400 for requests with an Authorization header.",
)
@_option("--username", default="someone@example.com", help="User of the password grant.")
@_option("--password", default="correct horse", help="Password of the password grant.")
@_option("--faults", type=click.Path(dir_okay=False, path_type=Path), help="Fault script, TOML or JSON.")
@click.option("--list-faults", is_flag=True, help="List the available faults and exit.")
def simulate(**options: Any) -> int:
    """
    Run a local UP42 API with signed-URL storage for tests.

    The command prints one JSON line with the URLs and the API keys of the projects as soon as it accepts
    connections. It runs until it is interrupted.
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
    account = parts.SimulatedAccount(
        **{name: options[name] for name in ("seed", "projects", "jobs", "archive_bytes")},
        **{name: options[name] for name in ("quicklook_bytes", "hostile_names")},
    )
    simulator: Simulator = parts.Simulator(
        account,
        host=options["host"],
        api_port=options["port"],
        storage_host=options["storage_host"],
        storage_port=options["storage_port"],
        token_lifetime_s=options["token_life"],
        url_lifetime_s=options["url_life"],
        page_size=options["page_size"],
        latency_s=options["latency"],
        strict_storage_auth=options["strict_storage_auth"],
        username=options["username"],
        password=options["password"],
        faults=faults,
        max_recorded_requests=0,
    )
    return simulator


def simulator_parts() -> ModuleType:
    """Import the simulator. It is an extra, because it needs Pillow."""
    try:
        return import_module("bulkdl.simulator")
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        problem = "it needs Pillow to draw images: pip install 'bulkdl[simulator]'"
        raise ConfigError("the simulator", problem) from error


async def _serve(simulator: Simulator) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code of the signal."""
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
