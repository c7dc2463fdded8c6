"""Check the Deployment, the Service and the Ingress of ``bulkdl serve`` in the manifests."""

from __future__ import annotations

from collections.abc import Iterator

from bulkdl.service.webhooks import PATH
from bulkdl.settings.hosts import UP42_MAX_RATE
from support.manifests import Documents, deployments, environment, of_kind, settings_of


def one_pod_uses_the_volume(documents: Documents) -> Iterator[str]:
    for name, spec in deployments(documents):
        if spec.get("replicas") != 1:
            yield f"{name}: one run can use the directory, so there is one replica"
        if spec.get("strategy") != {"type": "Recreate"}:
            yield f"{name}: the old pod must end before the new one starts"
        labels = spec["template"]["metadata"]["labels"]
        if not spec["selector"]["matchLabels"].items() <= labels.items():
            yield f"{name}: does not select its pods"
        if spec["template"]["spec"].get("restartPolicy", "Always") != "Always":
            yield f"{name}: a Deployment restarts its pods"


def the_service_selects_the_pod(documents: Documents) -> Iterator[str]:
    specs = [spec for _, spec in deployments(documents)]
    for service in of_kind(documents, "Service"):
        labels = specs[0]["template"]["metadata"]["labels"]
        if not service["spec"]["selector"].items() <= labels.items():
            yield "Service: does not select the pods of the Deployment"
        if [port["targetPort"] for port in service["spec"]["ports"]] != ["http"]:
            yield "Service: the target is the port http"
    if len(of_kind(documents, "Service")) != len(specs):
        yield "Service: expected one for each Deployment"


def only_events_are_public(documents: Documents) -> Iterator[str]:
    services = [each["metadata"]["name"] for each in of_kind(documents, "Service")]
    for ingress in of_kind(documents, "Ingress"):
        hosts = {host for entry in ingress["spec"].get("tls", []) for host in entry["hosts"]}
        for rule in ingress["spec"]["rules"]:
            if rule["host"] not in hosts:
                yield f"Ingress: {rule['host']} has no TLS"
            for path in rule["http"]["paths"]:
                if (path["path"], path["pathType"]) != (PATH, "Exact"):
                    yield f"Ingress: only {PATH} is public"
                if path["backend"]["service"]["name"] not in services:
                    yield "Ingress: there is no such Service"


def public_events_are_signed(documents: Documents) -> Iterator[str]:
    for name, spec in deployments(documents):
        env = environment(spec["template"]["spec"]["containers"][0])
        if of_kind(documents, "Ingress") and "BULKDL_WEBHOOK_SECRET_FILE" not in env:
            yield f"{name}: a public address needs BULKDL_WEBHOOK_SECRET_FILE"
        settings = settings_of(documents, spec["template"]["spec"])
        if settings.allow_unsigned_webhooks or "BULKDL_ALLOW_UNSIGNED_WEBHOOKS" in env:
            yield f"{name}: unsigned events must not be accepted"
        if settings.rate > UP42_MAX_RATE:
            yield f"{name}: {settings.rate:g} requests a second are more than {UP42_MAX_RATE:g}"
        if settings.max_duration or settings.max_transfer:
            yield f"{name}: a limit of one run delays outputs until the next run"


RULES = [
    one_pod_uses_the_volume,
    the_service_selects_the_pod,
    only_events_are_public,
    public_events_are_signed,
]
