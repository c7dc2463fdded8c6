"""The column of bulkdl in the matrix of faults, and the page with the whole matrix."""

from pathlib import Path

import pytest

from robustness.faults import FAULTS, KILLED
from robustness.matrix import cell
from robustness.tools import BULKDL, BULKDL_STORAGE, PEERS, UP42_STAC, Tool

PAGE = Path(__file__).parents[2] / "docs" / "robustness.md"
# Exit codes, and the minimum and maximum of transferred bytes divided by needed bytes. A killed process loses
# the bytes in its memory, and a changed object is downloaded again. Error responses also have bytes.
BOUNDS: dict[str, tuple[tuple[int, ...], float, float]] = {
    "drop mid-body, same run": ((0,), 1.0, 1.01),
    "run fails, plain rerun": ((5, 0), 1.0, 1.01),
    "kill -9 half way, rerun": ((KILLED, 0), 1.0, 1.4),
    "object changed (same size) between runs": ((KILLED, 0), 1.49, 1.51),
    "body stalls half way": ((0,), 1.0, 1.01),
    "signed URL expires half way": ((0,), 1.0, 1.01),
    "429 `Retry-After: 2`": ((0,), 1.0, 1.01),
    "503 once": ((0,), 1.0, 1.01),
    "401 by the API for a good token": ((0,), 1.0, 1.01),
    "no Authorization to another host on a redirect": ((0,), 1.0, 1.01),
    "every body cut off": ((5,), 0.0, 0.01),
    "XML error page with status 200": ((0,), 1.0, 1.01),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("tool", [BULKDL, BULKDL_STORAGE], ids=["jobs", "storage"])
def test_robustness_matrix_bulkdl_passes(tool: Tool, fault: str) -> None:
    done = cell(tool, fault)
    exits, least, most = BOUNDS[fault]
    assert done.passed, done
    assert done.exits == exits
    assert least <= done.times <= most


def read_tables() -> list[list[list[str]]]:
    """Return the cells of both tables, with their heads."""
    tables: list[list[list[str]]] = []
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            tables.append([])
        elif line.startswith("| "):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


def test_robustness_page_lists_every_fault_and_tool() -> None:
    expected = [[BULKDL, *PEERS], [BULKDL_STORAGE, UP42_STAC]]
    for rows, tools in zip(read_tables(), expected, strict=True):
        assert rows[0] == ["fault", *(tool.label for tool in tools)]
        assert [row[0] for row in rows[1:]] == list(FAULTS)
        assert all(row[1].startswith("pass · ") for row in rows[1:])
