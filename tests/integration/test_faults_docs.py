"""Check that the generated pages of the documentation are current."""

import runpy
from pathlib import Path

from bulkdl.failure_policy import FAILURE_POLICIES
from bulkdl.models import Reason
from bulkdl.simulator import FAULTS
from bulkdl.simulator.routes import ENDPOINTS

DOCS = Path(__file__).parents[2] / "docs"
GENERATOR = runpy.run_path(str(DOCS / "generate.py"))


def test_failure_policy_page_matches_the_table() -> None:
    page = (DOCS / "failure-policy.md").read_text("utf-8")
    assert page == GENERATOR["failure_policy_page"](), "stale: run make docs"


def test_simulator_page_matches_the_tables() -> None:
    page = (DOCS / "simulator.md").read_text("utf-8")
    assert page == GENERATOR["simulator_page"](), "stale: run make docs"


def test_simulator_page_has_a_row_for_every_endpoint_and_fault() -> None:
    rows = [line.split("|")[1].strip() for line in GENERATOR["simulator_page"]().splitlines() if "|" in line]
    assert {f"`{name}`" for name in (*ENDPOINTS, *FAULTS)} <= set(rows)


def test_failure_policy_page_has_a_row_for_every_reason() -> None:
    page = GENERATOR["failure_policy_page"]()
    for reason, reaction in FAILURE_POLICIES.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{reason.value}` |"))
        assert reaction.action.value in row
        assert f"| {int(reaction.exit_code)} |" in row
        assert reaction.hint in row
    endings = {"downloaded", "linked", "up_to_date", "not_available", "container_unfinished", "stopped"}
    assert {reason.value for reason in Reason} - {reason.value for reason in FAILURE_POLICIES} <= endings
