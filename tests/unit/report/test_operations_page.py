"""Compare docs/operations.md and docs/run-report.md with the code."""

import ast
import re
from pathlib import Path

import pytest

from bulkdl.failure_policy import EXIT_RANK, ExitCode
from bulkdl.models import Outcome
from bulkdl.report.run_report import schema

ROOT = Path(__file__).parents[3]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
RUN_REPORT = (ROOT / "docs" / "run-report.md").read_text("utf-8")
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}


def section(title):
    return OPERATIONS.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def levels_of(call):
    """Return the log levels of a call; empty if the call does not log."""
    called = call.func
    if not isinstance(called, ast.Attribute) or not isinstance(called.value, ast.Name):
        return set()
    return {LEVELS[called.attr]} if called.value.id in ("log", "_log") and called.attr in LEVELS else set()


def fields_of(call):
    named = {keyword.arg for keyword in call.keywords if keyword.arg}
    spread = [keyword.value for keyword in call.keywords if not keyword.arg]
    dicts = [node for value in spread for node in ast.walk(value) if isinstance(node, ast.Dict)]
    has_id = any(isinstance(value, ast.Call) and ast.unparse(value.func) == "id_field" for value in spread)
    return named | {key.value for node in dicts for key in node.keys} | ({"id"} if has_id else set())


def events_in_code():
    """Return level and fields of each log event in the code."""
    found = {}
    for path in (ROOT / "bulkdl").rglob("*.py"):
        if "simulator" in path.parts:
            continue
        for call in (
            node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
        ):
            by_outcome = (
                path.name == "recorder.py" and isinstance(call.func, ast.Name) and call.func.id == "level"
            )
            if not by_outcome and not levels_of(call):
                continue
            name = call.args[0]
            if by_outcome:
                for outcome in Outcome:
                    level = "warning" if outcome is Outcome.FAILED else "info"
                    found[f"transfer.{outcome}"] = ({level}, fields_of(call))
                continue
            assert isinstance(name, ast.Constant), f"{path}:{call.lineno}: the event name is not a constant"
            levels, fields = found.setdefault(name.value, (set(), set()))
            levels |= levels_of(call)
            fields |= fields_of(call)
    return found


def events_in_docs():
    return {
        event.strip("`"): ({level}, set(re.findall(r"`(\w+)`", fields)))
        for event, level, fields, _ in rows(section("Log events"))
    }


def test_operations_page_lists_exactly_the_log_events_of_the_code():
    assert events_in_docs() == events_in_code()


def test_log_event_names_have_the_form_noun_dot_participle():
    assert [
        event
        for event in events_in_code()
        if not re.fullmatch(r"[a-z0-9]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*", event)
    ] == []


def test_operations_page_lists_exactly_the_exit_codes():
    assert [int(row[0]) for row in rows(section("Exit codes"))] == [int(code) for code in ExitCode]


def test_operations_page_shows_the_rank_of_exit_codes():
    order = re.search(r"in the order ([\d,\s]+);", section("Exit codes"))[1]
    assert [int(code) for code in order.split(",")] == [int(code) for code in EXIT_RANK]


def test_operations_page_worked_example_matches_its_formulas():
    jobs, tasks, archives, quicklooks, mean, different = 40_000, 80_000, 115_000, 160_000, 250e6, 76_000
    requests = jobs / 100 + jobs + tasks + 2 * archives + quicklooks
    text = section("One-time backfill")
    assert f"| API requests | J ÷ 100 + J + T + 2 A + Q | {requests:_.0f} |".replace("_", " ") in text
    assert f"at 80: {requests / 80 / 3600:.1f} h" in text
    assert f"| bytes | D × S (quicklooks and GeoJSON are small) | {different * mean / 1e12:g} TB |" in text
    assert f"at 50 MB/s: {different * mean / 50e6 / 3600:.1f} h" in text
    assert f"{archives * mean / 1e12:g} TB |" in text
    assert f"| {600 * (2 * archives + quicklooks) / 1e6:g} MB |" in text
    assert f"| {2 * archives + quicklooks + 2 * jobs + tasks:_} |".replace("_", " ") in text


def described(part, path=""):
    """Yield path, type and description of each key of a schema."""
    for name, value in part.get("properties", {}).items():
        environment = f"{path}{name}"
        kind = value.get("type", "enum" if "enum" in value else "const")
        inner = value.get("items", {})
        yield environment, " or ".join(kind) if isinstance(kind, list) else kind, value.get("description", "")
        yield from described(value, f"{environment}.")
        yield from described(inner, f"{environment}[].")


def table():
    def type_name(kind):
        return {"const": "integer", "enum": "string"}.get(kind, kind)

    lines = [f"| `{path}` | {type_name(kind)} | {text} |" for path, kind, text in described(schema())]
    return ["| key | type | meaning |", "|---|---|---|", *lines]


def test_run_report_page_lists_exactly_the_keys_of_the_schema():
    assert [line for line in RUN_REPORT.splitlines() if line.startswith("|")] == table()


@pytest.mark.parametrize("name", ["operations.md", "run-report.md"])
def test_links_of_page_exist(name):
    page = ROOT / "docs" / name
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
