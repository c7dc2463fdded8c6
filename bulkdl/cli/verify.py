"""``bulkdl verify``: compare the files with the ledger, or recreate a lost ledger from the files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click

from bulkdl.cli import options
from bulkdl.cli.context import read_settings
from bulkdl.cli.help import Command, Group
from bulkdl.cli.render import show_verification
from bulkdl.cli.signals import run_interruptible
from bulkdl.errors import ConfigError
from bulkdl.graph.upload_options import shared_state_options, upload_options
from bulkdl.maintenance.rebuild import rebuild
from bulkdl.maintenance.verify import VerifyOptions
from bulkdl.maintenance.verify import verify as compare_with_ledger
from bulkdl.report.verification import Verification
from bulkdl.settings import Settings
from bulkdl.sources.registry import installed_layouts
from bulkdl.telemetry.console_logging import log_to_console
from bulkdl.telemetry.consoles import Console, create_stderr_console, has_bars
from bulkdl.units import format_size

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

Work = Callable[[], Awaitable[Verification]]


@click.command(cls=Command, example="bulkdl verify --deep --repair -o outputs || bulkdl retry -o outputs")
@options.output
@options.option(
    "--deep", is_flag=True, envvar="BULKDL_DEEP", help="also compare checksums; reads all files completely"
)
@options.option(
    "--repair",
    is_flag=True,
    envvar="BULKDL_REPAIR",
    help="mark bad files so that retry or run downloads them again",
)
@options.option(
    "--rebuild",
    "recreate",
    is_flag=True,
    envvar="BULKDL_REBUILD",
    help="recreate a lost ledger from the files",
)
@options.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    default=4,
    show_default=True,
    envvar="BULKDL_VERIFY_WORKERS",
    help="number of files that are read concurrently  [variable: BULKDL_VERIFY_WORKERS]",
    group=Group.CONCURRENCY,
)
@options.result_format("table", "json")
@options.common(network=False)
def verify(deep: bool, repair: bool, recreate: bool, workers: int, **params: Any) -> int:
    """
    Compare the files with the ledger: missing files, size mismatches and, with --deep, checksum mismatches.

    The exit code is 0 if all files match, and 6 otherwise. Files that are not in the ledger are listed and
    do not change the exit code.
    """
    settings = read_settings(params).settings
    if recreate and (deep or repair):
        raise ConfigError("--rebuild", "cannot be combined with --deep or --repair")
    console = create_stderr_console()
    with log_to_console(console, settings.log_format, settings.verbose), _bar(console, settings) as bar:
        verify_options = VerifyOptions(
            settings.require_output(),
            installed_layouts(settings),
            settings.state,
            deep=deep,
            repair=repair,
            workers=workers,
            uploads=upload_options(settings),
            shared=shared_state_options(settings),
            shard=settings.shard,
        )
        work = partial(rebuild if recreate else compare_with_ledger, verify_options, bar)
        verification = asyncio.run(run_interruptible(work))
    show_verification(verification, params["result_format"])
    return int(verification.exit_code)


@dataclass(slots=True)
class _Bar:
    """The progress of a verification. Without *progress*, the bar is not displayed."""

    progress: Progress | None = None
    task: TaskID | None = None
    files: int = 0
    size_bytes: int = 0

    def start(self, files: int, size_bytes: int) -> None:
        if self.progress is not None:
            self.task = self.progress.add_task("verifying", total=size_bytes or files, note="")

    def advance(self, files: int, size_bytes: int) -> None:
        self.files += files
        self.size_bytes += size_bytes
        if self.progress is not None and self.task is not None:
            note = f"{self.files} files, {format_size(self.size_bytes)}"
            self.progress.update(self.task, advance=size_bytes, note=note)


@contextmanager
def _bar(console: Console, settings: Settings) -> Iterator[_Bar]:
    if not has_bars(console, settings.progress):
        yield _Bar()
        return
    from rich.progress import (  # noqa: PLC0415 - only for a terminal
        BarColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    terminal = cast("RichConsole", console)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), console=terminal, transient=True) as progress:
        yield _Bar(progress)
