"""
The same hostile origin for bulkdl and its peers: one cell for each fault and tool.

``python tests/robustness/matrix.py docs/robustness.md`` runs all that are installed and writes the page.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
from faults import FAULTS, HUNG, KILLED, attempt
from tools import BULKDL, PEERS, Tool

HEAD = """\
# {count} faults, and who survives them

Made by `make robustness` on {today}: {versions}.
One archive of 8 MiB from a hostile origin on loopback (`tests/robustness/origin.py`). A cell tells
whether the tool passed, bytes moved over bytes needed, and the exit code of each run. To pass is
to have the right bytes and exit code 0; where no right bytes are to be had, another exit code and
no file under its name; after a 429, to have waited as told.

bulkdl and up42-py log in to the origin's API and ask it for a signed URL, as they ask UP42; the others
get a plain one. Where the URL expires they get a signed one too, and whoever fails is run once more, the
others with a new URL, as a script around them would. In the row of the redirect they send `Authorization`
to the first host; for up42-py and bulkdl the API redirects as well, and the storage must see none either.
An API's 401 is nothing the others can meet.

up42-py runs `Job.download_results(unpacking=False)`, to keep the archive as the others do; unpacking, its
default, would refuse the error page. For bodies it has no retries, and no timeout to set: it waits
120 s before it takes one for stalled.

"""


@dataclass(frozen=True)
class Cell:
    """How it went, *passed* None where it cannot; *times* is bytes moved over bytes needed."""

    passed: bool | None
    times: float
    exits: tuple[int, ...]

    def __str__(self) -> str:
        if self.passed is None:
            return "–"
        exits = ", ".join({KILLED: "killed", HUNG: "hung"}.get(code, str(code)) for code in self.exits)
        return f"{'pass' if self.passed else '**fail**'} · {self.times:.2f} × · exit {exits}"


def cell(tool: Tool, fault: str) -> Cell:
    """Run one."""
    with attempt(tool) as one:
        passed = FAULTS[fault](one)
        return Cell(passed, one.origin.sent_bytes() / len(one.origin.things[0].body), tuple(one.exits))


def page(columns: Mapping[Tool, Sequence[Cell]], today: str) -> str:
    versions = ", ".join(tool.told_version() for tool in columns)
    lines = ["| fault | " + " | ".join(tool.label for tool in columns) + " |"]
    lines.append("|---|" + "---|" * len(columns))
    for number, fault in enumerate(FAULTS):
        lines.append(f"| {fault} | " + " | ".join(str(cells[number]) for cells in columns.values()) + " |")
    lines += ["", "The commands:", "", "```", *(tool.typed() for tool in columns), "```"]
    return HEAD.format(count=len(FAULTS), today=today, versions=versions) + "\n".join(lines) + "\n"


def main(target: Path) -> None:
    columns: dict[Tool, list[Cell]] = {}
    for tool in (BULKDL, *PEERS):
        if tool.is_installed:
            columns[tool] = [cell(tool, fault) for fault in FAULTS]
        else:
            sys.stderr.write(f"robustness: {tool.label} is not installed, so its column is left out\n")
    target.write_text(page(columns, f"{datetime.now(UTC):%Y-%m-%d}"), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
