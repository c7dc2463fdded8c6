"""Compare docs/metrics.md, the alerts and the dashboard with the metrics of the code."""

import json
import re
from itertools import chain
from pathlib import Path

import pytest
import yaml

from bulkdl.failure_policy import ExitCode
from bulkdl.models import Outcome, Reason
from bulkdl.sources.up42_jobs.endpoints import API_ENDPOINTS as JOBS_ENDPOINTS
from bulkdl.sources.up42_jobs.endpoints import OTHER
from bulkdl.sources.up42_jobs.models import Kind
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.sources.up42_storage.endpoints import API_ENDPOINTS as STORAGE_ENDPOINTS
from bulkdl.telemetry.events import STORAGE
from bulkdl.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "metrics.md").read_text("utf-8")
ALERTS = yaml.safe_load((ROOT / "config" / "prometheus" / "alerts.yml").read_text("utf-8"))
DASHBOARD = json.loads((ROOT / "config" / "grafana" / "bulkdl.json").read_text("utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

API_ENDPOINTS = {"jobs": JOBS_ENDPOINTS, "storage": STORAGE_ENDPOINTS}
ENDPOINTS = (*JOBS_ENDPOINTS, *STORAGE_ENDPOINTS, STORAGE, OTHER)
VALUES = {
    "source": set(API_ENDPOINTS),
    "kind": set(Kind),
    "outcome": set(Outcome),
    "reason": set(Reason),
    "state": {"planned", "up_to_date", "unfinished"},
    "endpoint": set(ENDPOINTS),
    "status": {"2xx", "3xx", "4xx", "5xx", "error"},
}
FROM_SCRAPING = {"job", "instance"}


def in_code() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name → type and labels."""
    families = Metrics("0", SPEC.kind_names, lambda: 0.0)._families
    collectors = [collector for collector in vars(families).values() if hasattr(collector, "_labelnames")]
    return {
        collector._name + ("_total" if collector._type == "counter" else ""): (
            collector._type,
            tuple(collector._labelnames),
        )
        for collector in collectors
    }


CODE = in_code()


def expressions() -> list[str]:
    targets = chain.from_iterable(panel["targets"] for panel in DASHBOARD["panels"])
    return [rule["expr"] for rule in RULES] + [target["expr"] for target in targets]


def names_in(text: str) -> set[str]:
    found = set(re.findall(r"\bbulkdl_[a-z_]+", text))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}


def test_metrics_page_lists_exactly_the_metrics_of_the_code():
    rows = re.findall(r"^\| `(bulkdl_\w+)` \| (\w+) \| (.*?)\s*\|", DOCS, re.MULTILINE)
    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert listed == CODE
    assert names_in(DOCS) == set(CODE)


@pytest.mark.parametrize(("source", "endpoints"), API_ENDPOINTS.items())
def test_metrics_page_lists_all_endpoints(source, endpoints):
    row = re.search(rf"^\| `{source}` \| (.*) \|$", DOCS, re.MULTILINE)
    assert row
    assert tuple(re.findall(r"`(\w+)`", row[1])) == tuple(endpoints)
    assert all(f"`{endpoint}` for" in DOCS for endpoint in (STORAGE, OTHER))


@pytest.mark.parametrize("expression", expressions())
def test_expression_uses_existing_metrics_labels_and_values(expression):
    names = names_in(expression)
    assert names
    assert names <= set(CODE)
    labels = set(chain.from_iterable(CODE[name][1] for name in names)) | FROM_SCRAPING | {"le"}
    for clause in re.findall(r"\bby \((.*?)\)", expression):
        assert set(clause.split(", ")) <= labels
    for label, value in re.findall(r'(\w+)[!=]~?"([^"]*)"', expression):
        assert label in labels
        if label not in FROM_SCRAPING:
            assert set(value.split("|")) <= VALUES[label], label


def test_every_metric_is_used_in_an_alert_or_a_panel():
    assert set().union(*map(names_in, expressions())) == set(CODE)


def test_alert_rules_are_complete():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_alerts_use_existing_exit_codes():
    for rule in RULES:
        for code in re.findall(r"exit_code [!=]= (\d+)", rule["expr"]):
            assert int(code) in set(ExitCode), rule["alert"]


def test_dashboard_panels_do_not_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
