"""
The command line. A command's module is imported when the command is used, so that ``--help`` is quick;
its click command has the name of its module.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType

import click

from bulkdl import __version__
from bulkdl.cli.ending import ended
from bulkdl.cli.heap import share_heap
from bulkdl.cli.open_files import raise_open_file_limit

COMMANDS = {
    "run": "fetch every selected output that is not there yet",
    "plan": "what run would do, without a byte of output",
    "status": "what the ledger knows: outputs by kind and state, failures with reasons",
    "verify": "files against ledger; --repair marks bad ones, --rebuild makes a lost ledger again",
    "retry": "run, for what failed",
    "simulate": "a local UP42 with signed-URL storage, in the foreground",
    "demo": "the simulator and a run against it, in one process",
    "config": "the effective settings and where each came from",
}


class LazyGroup(click.Group):
    """Knows its commands by name and one line; imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(_loaded(f"bulkdl.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _loaded(name: str) -> ModuleType:
    """Import *name*; what stays for good is no garbage, and is not looked through as such again."""
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.enable()
        gc.freeze()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example:  bulkdl run -p 5f0c1a52-7a3a-4c52-9d0e-0f3f1a2b3c4d --since 7d -o outputs",
)
@click.version_option(__version__, prog_name="bulkdl", message="%(prog)s %(version)s")
def cli() -> None:
    """
    Fetch every output of many UP42 jobs at once: resumable, verified, unattended.

    Credentials come from UP42_PROJECT_ID and UP42_PROJECT_API_KEY, UP42_USERNAME and UP42_PASSWORD,
    or UP42_TOKEN (each also with _FILE), or from [[projects]] tables in the config file.
    """


def main() -> None:
    """Run the command line; the way in for ``bulkdl`` and ``python -m bulkdl``."""
    share_heap()
    raise_open_file_limit()
    argv = sys.argv[1:]
    sys.exit(ended(lambda: cli.main(argv, prog_name="bulkdl", standalone_mode=False), argv))
