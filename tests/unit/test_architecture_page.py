"""Check that docs/architecture.md names existing modules and keeps the glossary short."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_architecture_page_names_existing_modules() -> None:
    modules = set(re.findall(r"`([a-z_0-9/]+\.py)`", PAGE))
    assert len(modules) > 20
    assert [module for module in sorted(modules) if not (ROOT / "bulkdl" / module).exists()] == []


def test_architecture_page_glossary_has_at_most_thirty_terms() -> None:
    glossary = PAGE.split("\n## Glossary\n")[1]
    rows = [line for line in glossary.splitlines() if line.startswith("| ")][1:]
    assert 20 <= len(rows) <= 30
