"""``bulkdl catalog``: write the catalogue of an output directory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import read_settings
from bulkdl.cli.help import Command, Group
from bulkdl.cli.render import write_json, write_lines
from bulkdl.cli.signals import run_interruptible
from bulkdl.concurrency import run_stoppable
from bulkdl.errors import ConfigError
from bulkdl.failure_policy import ExitCode
from bulkdl.maintenance.catalog import create_catalog
from bulkdl.processors.catalog.build import (
    FORMATS,
    PAGE,
    PARQUET,
    PARQUET_EXTRA,
    CatalogResult,
    default_formats,
    has_parquet,
)
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts
from bulkdl.telemetry.console_logging import log_to_console
from bulkdl.telemetry.consoles import create_stderr_console


@click.command(cls=Command, example="bulkdl catalog -o outputs --only gpkg")
@options.output
@options.option(
    "--only",
    "formats",
    metavar="FORMAT,…",
    multiple=True,
    envvar="BULKDL_CATALOG_ONLY",
    help=f"write these formats only: {', '.join(FORMATS)}; the new catalogue has no others",
    group=Group.DESTINATION,
)
@options.option(
    "--checksums",
    is_flag=True,
    envvar="BULKDL_CHECKSUMS",
    help="write catalog/SHA256SUMS; reads the files that are not unpacked, once",
    group=Group.DESTINATION,
)
@options.option(
    "--georeference",
    type=click.Choice(["quicklooks"]),
    envvar="BULKDL_GEOREFERENCE",
    help="write PICTURE.aux.xml next to each quicklook, with the approximate place of the scene",
    group=Group.DESTINATION,
)
@options.result_format("table", "json")
@options.common(network=False)
def catalog(formats: tuple[str, ...], checksums: bool, georeference: str | None, **params: Any) -> int:
    """
    Write a catalogue of all outputs: a page, a STAC catalogue, a GeoPackage and mosaics.

    The command sends no requests and needs no credentials. It can be used during a run. The page is
    index.html, everything else is in the folder catalog. The catalogue replaces the previous one as a whole
    and can be deleted at any time.
    """
    chosen = parse_formats(formats)
    settings = read_settings(params).settings
    console = create_stderr_console()
    with log_to_console(console, settings.log_format, settings.verbose):
        result = write_catalog_of(
            settings, chosen, checksums=checksums, georeferences=georeference is not None
        )
    show_catalog(result, settings, params["result_format"])
    return int(ExitCode.OK)


def parse_formats(values: tuple[str, ...]) -> tuple[str, ...]:
    """
    Return the formats to write; see ``default_formats`` for the default.

    Raises:
        ConfigError: A format is unknown, or its extra is not installed.
    """
    names = [name for value in values for name in value.replace(",", " ").split()]
    for name in names:
        if name not in FORMATS:
            raise ConfigError("--only", f"unknown format {name[:60]!r}; expected one of {', '.join(FORMATS)}")
    if PARQUET in names and not has_parquet():
        raise ConfigError(
            "--only", f"parquet needs more packages; install them with pip install 'bulkdl[{PARQUET_EXTRA}]'"
        )
    return tuple(name for name in FORMATS if name in names) if names else default_formats()


def write_catalog_of(
    settings: Settings, formats: tuple[str, ...] | None = None, **choices: bool
) -> CatalogResult:
    """
    Write the catalogue of the output directory in *settings*. A signal ends the command.

    Args:
        choices: See ``CatalogRequest``: *checksums*, *georeferences*.
    """
    write = partial(write_catalog_async, settings, formats or default_formats(), choices)
    return asyncio.run(run_interruptible(write))


async def write_catalog_async(
    settings: Settings, formats: tuple[str, ...], choices: Mapping[str, bool]
) -> CatalogResult:
    """Write the catalogue in a thread. Cancellation stops the thread and waits for its end."""
    work: Callable[[threading.Event], CatalogResult] = partial(
        create_catalog,
        output=settings.require_output(),
        layouts=installed_layouts(settings),
        state=settings.state,
        formats=formats,
        durability=settings.durability,
        checksums=choices.get("checksums", False),
        georeferences=choices.get("georeferences", False),
    )
    with ThreadPoolExecutor(1, thread_name_prefix="catalog") as executor:
        return await run_stoppable(executor, work)


def show_catalog(result: CatalogResult, settings: Settings, result_format: str) -> None:
    """Write the result to stdout."""
    output = Path(settings.require_output())
    if result_format == "json":
        write_json({**result.as_dict(), "output": str(output)})
        return
    states = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    unchanged = f", {result.unchanged} unchanged" if result.unchanged else ""
    write_lines(
        f"{result.entries} entries ({states or 'none'}) of {result.containers} containers{unchanged}",
        f"The catalogue is in {output / 'catalog'}.",
    )
    if PAGE in result.formats:
        write_lines(f"Open {output / 'index.html'} in a browser.")
