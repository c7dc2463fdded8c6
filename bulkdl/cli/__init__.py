"""
Define the ``bulkdl`` command group.

The group imports a command only when it runs, so that ``--help`` is fast. The click command has the name of
its module.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress
from importlib import import_module
from types import ModuleType

import click
from click.shell_completion import CompletionItem

from bulkdl import __version__
from bulkdl.cli.exit_codes import run_command
from bulkdl.cli.open_files import raise_open_file_limit
from bulkdl.cli.streams import guard_streams

_M_ARENA_MAX = -8  # a parameter of mallopt in <malloc.h>

COMMANDS = {
    "run": "download all selected outputs that are missing",
    "serve": "run permanently: on a schedule and after events of UP42",
    "plan": "list the outputs that run would download",
    "status": "show the outputs in the ledger and the failures",
    "verify": "compare the files with the ledger; --repair, --rebuild",
    "retry": "download failed outputs again",
    "unpack": "unpack downloaded archives; no network, no credentials",
    "catalog": "write a catalogue of the downloaded outputs; no network, no credentials",
    "webhooks": "register bulkdl serve at UP42: add, list, test, remove",
    "config": "show the effective settings and their sources",
    "demo": "download from a simulated account on this machine",
    "simulate": "run a local UP42 API for tests",
}


class LazyGroup(click.Group):
    """A group that imports the module of a command only when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(_import_permanently(f"bulkdl.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the options or commands that start with *incomplete*, without an import of the commands."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        names = (name for name in COMMANDS if name.startswith(incomplete))
        return [CompletionItem(name, help=COMMANDS[name]) for name in names]


def _import_permanently(name: str) -> ModuleType:
    """Import *name* without garbage collection, because its objects exist until the process exits."""
    gc.disable()
    try:
        _import_structlog()
        return import_module(name)
    finally:
        gc.enable()
        gc.freeze()


def _import_structlog() -> None:
    """
    Import structlog without Rich, which structlog would import to format tracebacks.

    The program formats tracebacks as plain text, and only terminals need Rich. Its import takes a tenth of
    the start of a run. An application that uses the library is not affected.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # the documented way to make an import fail
    try:
        import_module("structlog")
    finally:
        del sys.modules["rich"]


def _print_version(ctx: click.Context, _parameter: click.Parameter, is_given: bool) -> None:
    """Print the version, and the revision of the source if the package was built from a known one."""
    if not is_given or ctx.resilient_parsing:
        return
    try:
        revision: str = import_module("bulkdl.cli._revision").REVISION  # written by build_hook.py
    except ImportError:
        revision = ""
    click.echo(f"bulkdl {__version__}" + (f" ({revision})" if revision else ""))
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example:  bulkdl run -p 5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d --since 7d -o outputs",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and the revision, and exit.",
)
def cli() -> None:
    """
    Download everything that UP42 holds for projects and accounts: resumable, verified, unattended.

    Credentials: UP42_PROJECT_ID and UP42_PROJECT_API_KEY, or UP42_USERNAME and UP42_PASSWORD, or UP42_TOKEN.
    Append _FILE to a variable to read its value from a file. The config file can contain [[projects]] tables
    with one API key each, and [[accounts]] tables. One run downloads both.
    """


def limit_malloc_arenas() -> None:
    """
    Limit glibc to one malloc arena. Call this function before threads start. It has no effect without glibc.

    With one arena per thread, memory grew by 20 MiB over 600,000 outputs; see
    docs/decisions/0010-single-malloc-arena.md.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def main() -> None:
    """Run the command line: the entry point of ``bulkdl`` and ``python -m bulkdl``."""
    guard_streams()
    # Plugins of other distributions do not see the settings, and pydantic does not search for them.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    limit_malloc_arenas()
    raise_open_file_limit()
    argv = sys.argv[1:]
    code = run_command(lambda: cli.main(argv, prog_name="bulkdl", standalone_mode=False), argv)
    if "obstore" in sys.modules:
        exit_without_finalization(code)
    sys.exit(code)


def exit_without_finalization(code: int) -> None:
    """
    Exit the process without the finalization of the interpreter, after the output is written.

    A thread of obstore can use the interpreter during its finalization, which aborts the process with SIGABRT
    instead of *code*. Commands have closed their files and threads at this point.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # run_command has reported it
            stream.flush()
    os._exit(code)
