"""Check that the generated pages of the documentation are current."""

import runpy
from pathlib import Path

from bulkdl.model import Reason
from bulkdl.reactions import REACTIONS

DOCS = Path(__file__).parents[2] / "docs"
GENERATOR = runpy.run_path(str(DOCS / "generate.py"))


def test_failure_policy_page_matches_the_table() -> None:
    page = (DOCS / "failure-policy.md").read_text("utf-8")
    assert page == GENERATOR["failure_policy_page"](), "stale: run make docs"


def test_failure_policy_page_has_a_row_for_every_reason() -> None:
    page = GENERATOR["failure_policy_page"]()
    for reason, reaction in REACTIONS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{reason.value}` |"))
        assert reaction.step.value in row
        assert f"| {int(reaction.exit_code)} |" in row
        assert reaction.hint in row
    endings = {"fetched", "linked", "already_there", "not_available", "job_unfinished", "stopped"}
    assert {reason.value for reason in Reason} - {reason.value for reason in REACTIONS} <= endings
