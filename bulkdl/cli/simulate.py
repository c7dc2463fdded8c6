"""``bulkdl simulate``: run the simulator in the foreground until a signal stops it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkdl.cli.help import Command
from bulkdl.errors import ConfigError
from bulkdl.settings.parsers import parse_size

if TYPE_CHECKING:
    from bulkdl.simulator import Simulator


_MAX_COUNT = 60  # items of a delivery, and assets of an item


class _Counts(click.ParamType[Any]):
    """Convert a number (``3``) or a range of numbers (``1-3``)."""

    name = "number[-number]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        low, _, high = str(value).partition("-")
        if not low.isdecimal() or not (high or low).isdecimal():
            self.fail(
                f"invalid number {value!r}; expected a number such as 3 or a range such as 1-3", param, ctx
            )
        counts = int(low), int(high or low)
        if counts[0] > counts[1] or counts[1] > _MAX_COUNT:
            self.fail(
                f"invalid range {value!r}; expected numbers up to {_MAX_COUNT}, smaller first", param, ctx
            )
        return counts


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
_PORTS = click.IntRange(0, 65535)


@click.command(
    cls=Command,
    variables="Each option can also be set with a variable: --page-size is BULKDL_SIMULATE_PAGE_SIZE.",
    example="bulkdl simulate --jobs 1000 --archive-bytes 1M-50M --port 8042",
    context_settings={"auto_envvar_prefix": "BULKDL_SIMULATE", "show_default": True},
)
@_option("--host", default="127.0.0.1", help="address to listen on")
@_option("--port", default=0, type=_PORTS, help="port of the API; 0 is a free port")
@_option("--storage-host", default="localhost", help="host name in the signed URLs")
@_option("--storage-port", default=0, type=_PORTS, help="port of the storage; 0 is a free port")
@_option("--projects", default=2, type=click.IntRange(1, 4096), help="number of projects")
@_option("--jobs", default=32, type=click.IntRange(0), help="number of jobs in all projects together")
@_option("--assets", default=24, type=click.IntRange(0), help="number of assets in the storage")
@_option("--items", default="1-2", type=_Counts(), help="items of a delivery, or a range")
@_option("--item-assets", default="2-6", type=_Counts(), help="assets of an item, or a range")
@_option("--seed", default=1, help="seed of the account; the same seed creates the same account")
@_option(
    "--archive-bytes", default="2000-400000", type=_Sizes(), help="size of an archive or raster, or a range"
)
@_option("--quicklook-bytes", default=0, type=click.IntRange(0), help="minimum size of a quicklook in bytes")
@_option("--hostile-names", is_flag=True, help="give some outputs names that are not valid file names")
@_option("--token-lifetime", default=300.0, help="seconds until a token expires")
@_option("--url-lifetime", default=120.0, help="seconds until a signed URL expires")
@_option("--page-size", default=100, type=click.IntRange(1), help="maximum entries per page of a list")
@_option("--latency", default=0.0, type=click.FloatRange(0), help="seconds before each response")
@_option(
    "--strict-storage-auth",
    is_flag=True,
    help="return 400 from the storage for requests with an Authorization header",
)
@_option("--username", default="someone@example.com", help="user name of the account")
@_option("--password", default="correct horse", help="password of the account")
@_option("--faults", type=click.Path(dir_okay=False, path_type=Path), help="fault script, TOML or JSON")
@_option("--list-faults", is_flag=True, help="list the available faults and exit")
def simulate(**options: Any) -> int:
    """
    Run a local UP42 API with signed-URL storage for tests.

    The API has projects with jobs, and the storage of the same account: assets, STAC, orders and processing
    jobs. The command prints one JSON line with the URLs, the API keys of the projects and the login of the
    account as soon as it accepts connections. It runs until it is interrupted.
    """
    require_simulator()
    if options["list_faults"]:
        from bulkdl.simulator import FAULTS  # noqa: PLC0415 - an extra

        click.echo("\n".join(map(str, FAULTS.values())))
        return 0
    return asyncio.run(_serve(_create_simulator(options)))


def require_simulator() -> None:
    """
    Check that the simulator can be imported. It is an extra, because it needs Pillow.

    Raises:
        ConfigError: Pillow is not installed.
    """
    try:
        import_module("bulkdl.simulator")
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        problem = "needs Pillow to draw images; install it with pip install 'bulkdl[simulator]'"
        raise ConfigError("the simulator", problem) from error


def _create_simulator(options: dict[str, Any]) -> Simulator:
    from bulkdl.simulator import (  # noqa: PLC0415 - an extra
        Faults,
        FaultScriptError,
        SimulatedAccount,
        Simulator,
        SimulatorOptions,
        StorageOptions,
    )

    try:
        faults = Faults.load(options["faults"]) if options["faults"] else None
    except FaultScriptError as error:
        raise ConfigError("--faults", str(error)) from error
    account = SimulatedAccount(
        **{name: options[name] for name in ("seed", "projects", "jobs", "archive_bytes")},
        **{name: options[name] for name in ("quicklook_bytes", "hostile_names")},
        storage=StorageOptions(
            **{name: options[name] for name in ("assets", "items", "item_assets", "hostile_names")},
            raster_bytes=options["archive_bytes"],
        ),
    )
    simulator_options = SimulatorOptions(
        host=options["host"],
        api_port=options["port"],
        storage_host=options["storage_host"],
        storage_port=options["storage_port"],
        token_lifetime_s=options["token_lifetime"],
        url_lifetime_s=options["url_lifetime"],
        page_size=options["page_size"],
        latency_s=options["latency"],
        strict_storage_auth=options["strict_storage_auth"],
        username=options["username"],
        password=options["password"],
        max_recorded_requests=0,
    )
    return Simulator(account, simulator_options, faults=faults)


async def _serve(simulator: Simulator) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit code of the signal."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    try:
        async with simulator:
            _print_addresses(simulator)
            return 128 + await signals.get()
    except OSError as error:
        raise ConfigError("--port", f"cannot listen: {error.strerror or error}") from error


def _print_addresses(simulator: Simulator) -> None:
    projects = [{"id": project.id, "api_key": project.api_key} for project in simulator.projects]
    username, password = simulator.account_credentials
    line = {
        "api_url": simulator.api_url,
        "storage_url": simulator.storage_url,
        "projects": projects,
        "account": {"username": username, "password": password},
    }
    click.echo(json.dumps(line))
    sys.stdout.flush()
