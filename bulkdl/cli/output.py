"""
What commands write to stdout: a table on a terminal, plain lines in a pipe, or one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bulkdl.cli.ending import silence_stdout

Row = Sequence[str]


def emit_json(document: object) -> None:
    """One JSON object and a line end."""
    emit_text(json.dumps(document, ensure_ascii=False))


def emit_text(text: str) -> None:
    """
    *text* and a line end. A reader that went away does not change how the command ends.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()


def emit_rows(
    header: Row, rows: Sequence[Row], *, title: str | None = None, numbers: Sequence[str] = ()
) -> None:
    """A table; *numbers* are the columns that stand to the right."""
    if not sys.stdout.isatty():
        emit_text(plain_rows(header, rows, title=title))
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in header:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def plain_rows(header: Row, rows: Sequence[Row], *, title: str | None = None) -> str:
    """The same as lines of text, columns two spaces apart."""
    every = [tuple(header), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]
    return "\n".join([title, *lines] if title else lines)
