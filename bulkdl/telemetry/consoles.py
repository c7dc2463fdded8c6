"""
Choose the console for stderr: a rich console for a terminal, plain lines for a pipe or a file.

Rich is imported only for a terminal, because the import takes about a tenth of the start of a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias, cast

from bulkdl.telemetry.events import NullReporter, Reporter

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

# With one of these variables rich can treat a pipe as a terminal.
_TERMINAL_VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE")


class PipeConsole:
    """Stderr as a pipe or a file."""

    is_terminal = False
    is_dumb_terminal = False
    no_color = True

    @property
    def file(self) -> TextIO:
        return sys.stderr

    @property
    def encoding(self) -> str:
        return (getattr(sys.stderr, "encoding", None) or "utf-8").lower()


Console: TypeAlias = "RichConsole | PipeConsole"


def create_stderr_console(env: Mapping[str, str] | None = None) -> Console:
    """Create the console that logs and the progress display share; respects NO_COLOR."""
    variables = os.environ if env is None else env
    if not _is_terminal(sys.stderr) and not any(variables.get(name) for name in _TERMINAL_VARIABLES):
        return PipeConsole()
    from rich.console import Console as RichConsole  # noqa: PLC0415 - see the module docstring

    return RichConsole(stderr=True, _environ=env)


def has_bars(console: Console, mode: Literal["auto", "never"] = "auto") -> bool:
    """Return whether the progress display is drawn on *console*."""
    return mode == "auto" and console.is_terminal and not console.is_dumb_terminal


@contextmanager
def show_progress(
    console: Console, kinds: Sequence[str], mode: Literal["auto", "never"] = "auto"
) -> Iterator[Reporter]:
    """Report to a display on a terminal inside the block; to nothing in a pipe or with ``never``."""
    if not has_bars(console, mode):
        yield NullReporter()
        return
    from bulkdl.telemetry.progress import RichProgress  # noqa: PLC0415 - see the module docstring

    with RichProgress(cast("RichConsole", console), kinds) as progress:
        yield progress


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # the stream is closed
        return False
