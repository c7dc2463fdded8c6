"""Check the network policies of the manifests."""

from __future__ import annotations

from collections.abc import Iterator

from support.manifests import (
    Documents,
    deployments,
    environment,
    of_kind,
    pods,
    workloads,
)

PROBES = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def the_port_is_one_port(documents: Documents) -> Iterator[str]:
    for name, _, container in pods(documents):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        if environment(container).get("BULKDL_LISTEN") != f"0.0.0.0:{ports.get('http')}":
            yield f"{name}: BULKDL_LISTEN and the port http differ"
        for probe, path in PROBES.items():
            if container.get(f"{probe}Probe", {}).get("httpGet") != {"path": path, "port": "http"}:
                yield f"{name}: {probe}Probe must request {path} at http"


def metrics_port_is_the_only_allowed_port(documents: Documents) -> Iterator[str]:
    for policy in of_kind(documents, "NetworkPolicy"):
        if [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] != ["http"]:
            yield "NetworkPolicy: only the port http must be allowed"
    for monitor in of_kind(documents, "PodMonitor"):
        endpoints = [(each["port"], each["path"]) for each in monitor["spec"]["podMetricsEndpoints"]]
        if endpoints != [("http", "/metrics")]:
            yield "PodMonitor: /metrics is at http"


def selectors_select_our_pods(documents: Documents) -> Iterator[str]:
    for document in of_kind(documents, "NetworkPolicy", "PodMonitor"):
        spec = document["spec"]
        expected = spec.get("podSelector", spec.get("selector"))["matchLabels"]
        for name, job in workloads(documents):
            if not expected.items() <= job["template"]["metadata"]["labels"].items():
                yield f"{document['kind']}: does not select the pods of {name}"
    # A Deployment has a policy of its own, for the Ingress.
    counts = {"NetworkPolicy": 1 + len(list(deployments(documents))), "PodMonitor": 1}
    for kind, expected_count in counts.items():
        if len(of_kind(documents, kind)) != expected_count:
            yield f"{kind}: expected {'one' if expected_count == 1 else expected_count}"


def only_names_and_https_go_out(documents: Documents) -> Iterator[str]:
    for document in of_kind(documents, "NetworkPolicy"):
        spec = document["spec"]
        if document["metadata"]["name"] in [name for name, _ in deployments(documents)]:
            if spec["policyTypes"] != ["Ingress"] or "egress" in spec:
                yield "NetworkPolicy: that of a Deployment adds ingress only"
            continue
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
    metrics_port_is_the_only_allowed_port,
    selectors_select_our_pods,
    only_names_and_https_go_out,
]
