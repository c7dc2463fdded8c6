"""
What commands write to stdout: a table on a terminal, plain lines in a pipe, or one JSON object.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bulkdl.printable import json_text, printable

Row = Sequence[str]

# A spreadsheet evaluates a cell that starts so; a quote makes it text (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def emit_json(document: object) -> None:
    """One JSON object and a line end."""
    _write(json_text(document, encoding=sys.stdout.encoding or "utf-8"))


def emit_lines(*lines: str) -> None:
    """Each of *lines*, with control characters escaped."""
    _write("\n".join(map(printable, lines)))


def emit_csv(header: Sequence[str], rows: Iterable[Sequence[object]], *, header_too: bool = True) -> None:
    """Rows as CSV, with a line of column names before them. No cell is a formula for a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header] if header_too else [])
    writer.writerows([[_cell(value) for value in row] for row in rows])
    if text.tell():
        _write(text.getvalue().removesuffix("\n"))


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA_STARTS) else printable(value)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit_rows(
    header: Row, rows: Sequence[Row], *, title: str | None = None, numbers: Sequence[str] = ()
) -> None:
    """A table; *numbers* are the columns that stand to the right."""
    if not sys.stdout.isatty():
        emit_lines(*plain_rows(header, rows, title=title))
        return
    table = Table(
        title=Text(printable(title)) if title else None,
        title_justify="left",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for column in header:
        right = column in numbers
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(file=sys.stdout).print(table)


def plain_rows(header: Row, rows: Sequence[Row], *, title: str | None = None) -> list[str]:
    """The same as lines of text, columns two spaces apart."""
    every = [tuple(map(printable, row)) for row in (header, *rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]
    return [title, *lines] if title else lines
