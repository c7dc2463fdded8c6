"""Network rules: the permitted connections to and from the pods."""

from __future__ import annotations

import pytest

from support.manifest_rules_network import RULES
from support.manifests import CONFIG, OVERLAYS, Break, complaints, complaints_when_broken, read, workloads

pytestmark = pytest.mark.kubernetes

POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)

BREAKS: list[Break] = [
    (("Job", *CONTAINER, "env", 4, "value"), "0.0.0.0:9000", "BULKDL_LISTEN and the port"),
    (("Job", *CONTAINER, "livenessProbe", "httpGet", "port"), 80, "livenessProbe must request"),
    (("NetworkPolicy", "spec", "egress", 1, "ports", 0, "port"), 80, "lets out"),
    (("NetworkPolicy", "spec", "ingress", 0, "ports", 0, "port"), 8080, "only the port http"),
    (("PodMonitor", "spec", "selector", "matchLabels"), {"app": "x"}, "does not select"),
    (("PodMonitor", "spec", "podMetricsEndpoints", 0, "port"), "metrics", "/metrics is at http"),
]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_follow_every_rule(overlay):
    documents = read(CONFIG / "overlays" / overlay)
    assert list(workloads(documents))
    assert complaints(RULES, documents) == []


@pytest.mark.parametrize(("path", "value", "message"), BREAKS, ids=[message for _, _, message in BREAKS])
def test_manifest_with_a_violation_reports_it(path, value, message):
    found = complaints_when_broken(RULES, path, value)
    assert [text for text in found if message in text], found
