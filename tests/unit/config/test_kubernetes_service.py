"""Service rules: one pod, a private status page, and signed events."""

from __future__ import annotations

import pytest

from support.manifest_rules_network import RULES as NETWORK_RULES
from support.manifest_rules_pods import RULES as POD_RULES
from support.manifest_rules_service import RULES
from support.manifests import CONFIG, Break, complaints, complaints_when_broken, deployments, read

pytestmark = pytest.mark.kubernetes

CONTAINER = ("spec", "template", "spec", "containers", 0)
PATHS = ("spec", "rules", 0, "http", "paths", 0)

BREAKS: list[Break] = [
    (("Deployment", "spec", "replicas"), 2, "there is one replica"),
    (("Deployment", "spec", "strategy"), {"type": "RollingUpdate"}, "the old pod must end"),
    (("Deployment", "spec", "selector", "matchLabels"), {"app": "x"}, "does not select its pods"),
    (("Deployment", *CONTAINER, "env", 5, "name"), "BULKDL_WEBHOOK_SECRET", "is not in the Secret's mount"),
    (("Deployment", *CONTAINER, "env", 5, "name"), "OTHER", "a public address needs"),
    (("Deployment", *CONTAINER, "env", 5, "name"), "BULKDL_ALLOW_UNSIGNED_WEBHOOKS", "must not be accepted"),
    (("Deployment", *CONTAINER, "args"), ["run"], "expected the command serve"),
    (("Deployment", *CONTAINER, "args"), ["serve", "--dry-run"], "serve has no --dry-run"),
    (("Deployment", *CONTAINER, "ports", 0, "containerPort"), 80, "BULKDL_LISTEN and the port http differ"),
    (("Deployment", "spec", "template", "spec", "terminationGracePeriodSeconds"), 50, "must be 10 s below"),
    (("Service", "spec", "selector"), {"app": "x"}, "does not select the pods"),
    (("Service", "spec", "ports", 0, "targetPort"), 9642, "the target is the port http"),
    (("Ingress", *PATHS, "path"), "/", "is public"),
    (("Ingress", *PATHS, "pathType"), "Prefix", "is public"),
    (("Ingress", *PATHS, "backend", "service", "name"), "x", "there is no such Service"),
    (("Ingress", "spec", "tls"), [], "has no TLS"),
]


def test_manifests_follow_every_rule():
    documents = read(CONFIG / "overlays" / "serve")
    assert list(deployments(documents))
    assert complaints(RULES, documents) == []


@pytest.mark.parametrize(("path", "value", "message"), BREAKS)
def test_manifest_with_a_violation_reports_it(path, value, message):
    found = complaints_when_broken([*RULES, *POD_RULES, *NETWORK_RULES], path, value)
    assert [text for text in found if message in text], found
