"""The page of path templates: its examples are valid, and its table has all placeholders."""

import re
import tomllib
from pathlib import Path

from bulkdl.settings import PathTemplates
from bulkdl.settings.path_templates import _PLACEHOLDERS

PAGE = (Path(__file__).parents[3] / "docs" / "path-templates.md").read_text()


def test_examples_are_valid_templates():
    examples = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        PathTemplates(**tomllib.loads(example)["path_templates"])


def test_table_lists_the_placeholders_of_each_source():
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `{")]
    allowed = {name: placeholders for name, (placeholders, _) in _PLACEHOLDERS.items()}
    of_source = {
        "jobs": set().union(*(found for found in allowed.values() if "job_id" in found)),
        "storage": set().union(*(found for found in allowed.values() if "workspace_id" in found)),
    }
    for column, source in enumerate(of_source, start=1):
        listed = [re.findall(r"\{(\w+)", row[0]) for row in rows if row[column].strip()]
        assert set().union(*listed) == of_source[source]
