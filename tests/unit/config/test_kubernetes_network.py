"""Who reaches the pods, and whom they reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from test_kubernetes_files import (
    CONFIG,
    OVERLAYS,
    Break,
    Documents,
    complaints,
    complaints_when_broken,
    environment,
    jobs,
    of_kind,
    pods,
    read,
)

PROBES = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def the_port_is_one_port(documents: Documents) -> Iterator[str]:
    for name, _, container in pods(documents):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        if environment(container).get("BULKDL_LISTEN") != f"0.0.0.0:{ports.get('http')}":
            yield f"{name}: BULKDL_LISTEN and the port http differ"
        for probe, path in PROBES.items():
            if container.get(f"{probe}Probe", {}).get("httpGet") != {"path": path, "port": "http"}:
                yield f"{name}: {probe}Probe must ask for {path} at http"


def metrics_are_read_at_that_port_and_nothing_else_is_let_in(documents: Documents) -> Iterator[str]:
    for policy in of_kind(documents, "NetworkPolicy"):
        if [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] != ["http"]:
            yield "NetworkPolicy: http must be let in, and nothing else"
    for monitor in of_kind(documents, "PodMonitor"):
        endpoints = [(each["port"], each["path"]) for each in monitor["spec"]["podMetricsEndpoints"]]
        if endpoints != [("http", "/metrics")]:
            yield "PodMonitor: /metrics is at http"


def selectors_select_our_pods(documents: Documents) -> Iterator[str]:
    for document in of_kind(documents, "NetworkPolicy", "PodMonitor"):
        spec = document["spec"]
        wanted = spec.get("podSelector", spec.get("selector"))["matchLabels"]
        for name, job in jobs(documents):
            if not wanted.items() <= job["template"]["metadata"]["labels"].items():
                yield f"{document['kind']}: does not select the pods of {name}"
    for kind in ("NetworkPolicy", "PodMonitor"):
        if len(of_kind(documents, kind)) != 1:
            yield f"{kind}: expected one"


def only_names_and_https_go_out(documents: Documents) -> Iterator[str]:
    for document in of_kind(documents, "NetworkPolicy"):
        spec = document["spec"]
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"]:
            yield "NetworkPolicy: both directions must be named"
        out = {
            (port["protocol"], port["port"])
            for rule in spec["egress"]
            for port in rule.get("ports", [("all", 0)])
        }
        if out != {("TCP", 443), ("TCP", 53), ("UDP", 53)}:
            yield f"NetworkPolicy: lets out {sorted(out)}"


RULES = [
    the_port_is_one_port,
    metrics_are_read_at_that_port_and_nothing_else_is_let_in,
    selectors_select_our_pods,
    only_names_and_https_go_out,
]

POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)

BREAKS: list[Break] = [
    (("Job", *CONTAINER, "env", 4, "value"), "0.0.0.0:9000", "BULKDL_LISTEN and the port"),
    (("Job", *CONTAINER, "livenessProbe", "httpGet", "port"), 80, "livenessProbe must ask"),
    (("NetworkPolicy", "spec", "egress", 1, "ports", 0, "port"), 80, "lets out"),
    (("NetworkPolicy", "spec", "ingress", 0, "ports", 0, "port"), 8080, "nothing else"),
    (("PodMonitor", "spec", "selector", "matchLabels"), {"app": "x"}, "does not select"),
    (("PodMonitor", "spec", "podMetricsEndpoints", 0, "port"), "metrics", "/metrics is at http"),
]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_manifests_keep_every_rule(overlay):
    documents = read(CONFIG / "overlays" / overlay)
    assert list(jobs(documents))
    assert complaints(RULES, documents) == []


@pytest.mark.parametrize(("path", "value", "told"), BREAKS, ids=[told for _, _, told in BREAKS])
def test_what_is_wrong_is_told(path, value, told):
    found = complaints_when_broken(RULES, path, value)
    assert [text for text in found if told in text], found
