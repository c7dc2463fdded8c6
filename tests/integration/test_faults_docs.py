"""The pages of the documentation that are made from code and results."""

from pathlib import Path

from bulkdl.model import Reason
from bulkdl.reactions import REACTIONS, as_markdown

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_reactions_is_what_the_table_says() -> None:
    assert (DOCS / "reactions.md").read_text("utf-8") == as_markdown(), "stale: make docs"


def test_every_failure_has_its_row() -> None:
    page = as_markdown()
    for reason, reaction in REACTIONS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{reason.value}` |"))
        assert reaction.step.value in row
        assert f"| {int(reaction.exit_code)} |" in row
        assert reaction.hint in row
    endings = {"fetched", "linked", "already_there", "not_available", "job_unfinished", "stopped"}
    assert {reason.value for reason in Reason} - {reason.value for reason in REACTIONS} <= endings
