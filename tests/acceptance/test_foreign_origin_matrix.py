"""bulkdl's part of the matrix of faults, and the page that was made of all of it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "robustness"))
from matrix import FAULTS, cell

PAGE = Path(__file__).parents[2] / "docs" / "robustness.md"
# A changed object has to come anew; what a killed process had in memory, too; an error page has bytes.
MOST = {"object changed (same size) between runs": 1.51, "kill -9 half way, rerun": 1.4}
LEAST_IS_NOTHING = ("every body cut off", "no Authorization to another host on a redirect")


@pytest.mark.parametrize("fault", FAULTS)
def test_bulkdl_passes(fault: str) -> None:
    done = cell(None, fault)
    assert done.passed, done
    assert done.times <= MOST.get(fault, 1.02)
    assert fault in LEAST_IS_NOTHING or done.times >= 1.0


def test_the_page_has_every_fault_and_bulkdl_passes_them_all() -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    rows = [[each.strip() for each in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0][1] == "**bulkdl**"
    assert [row[0] for row in rows[1:]] == list(FAULTS)
    assert all(row[1].startswith("pass · ") for row in rows[1:])
