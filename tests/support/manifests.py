"""
Read config/kubernetes for the tests of its manifests.

The rules between fields, which a schema cannot express, are in the modules ``manifest_rules_*``. Each rule
takes all documents of a deployment and yields violations. The rules are checked against the files, against
the output of kustomize (in tests/image), and against invalid manifests to detect an ineffective rule.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from bulkdl.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "kubernetes"
OVERLAYS = (
    "nightly",
    "backfill",
    "serve",
)  # the fourth overlay uses patches, so tests/image reads it with kustomize
# Created by hand as described in docs/kubernetes.md, so that manifests contain no keys.
SECRET = "bulkdl-up42"
SECRET_KEYS = {"project-id", "api-key"}
ACCOUNT_SECRET = "bulkdl-account"
# The files of each Secret by the variables that name them.
SECRETS = {
    SECRET: {"UP42_PROJECT_ID_FILE": "project-id", "UP42_PROJECT_API_KEY_FILE": "api-key"},
    ACCOUNT_SECRET: {
        "UP42_USERNAME_FILE": "username",
        "UP42_PASSWORD_FILE": "password",
        "BULKDL_WEBHOOK_SECRET_FILE": "webhook-secret",
    },
}

Document = dict[str, Any]
Documents = list[Document]
Rule = Callable[[Documents], Iterator[str]]
Break = tuple[tuple[Any, ...], Any, str]


def read(folder: Path) -> Documents:
    """Return the documents of a kustomization and its generated ConfigMaps. Patches are not applied."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    documents: Documents = []
    for name in [*kustomization.get("resources", []), *kustomization.get("components", [])]:
        path = folder / name
        text = "" if path.is_dir() else path.read_text(encoding="utf-8")
        documents += read(path) if path.is_dir() else [each for each in yaml.safe_load_all(text) if each]
    for generator in kustomization.get("configMapGenerator", []):
        data = {name: (folder / name).read_text(encoding="utf-8") for name in generator["files"]}
        documents.append({"kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    return documents


def of_kind(documents: Documents, *kinds: str) -> Documents:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: Documents, kind: str, name: str) -> Documents:
    return [each for each in of_kind(documents, kind) if each["metadata"]["name"] == name]


def jobs(documents: Documents) -> Iterator[tuple[str, Document]]:
    """Return name and spec of every Job, including the Jobs of CronJobs."""
    for document in of_kind(documents, "Job", "CronJob"):
        spec = document["spec"]
        yield document["metadata"]["name"], spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec


def deployments(documents: Documents) -> Iterator[tuple[str, Document]]:
    """Return name and spec of every Deployment."""
    for document in of_kind(documents, "Deployment"):
        yield document["metadata"]["name"], document["spec"]


def workloads(documents: Documents) -> Iterator[tuple[str, Document]]:
    """Return name and spec of everything that creates pods."""
    yield from jobs(documents)
    yield from deployments(documents)


def pods(documents: Documents) -> Iterator[tuple[str, Document, Document]]:
    """Return name, pod spec and the only container."""
    for name, spec in workloads(documents):
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        yield name, pod, container


def environment(container: Document) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def settings_of(documents: Documents, pod: Document) -> Settings:
    """Return the settings that bulkdl reads from the mounted ConfigMap."""
    (volume,) = [each for each in pod["volumes"] if "configMap" in each]
    (config_map,) = named(documents, "ConfigMap", volume["configMap"]["name"])
    name = Path(environment(pod["containers"][0])["BULKDL_CONFIG"]).name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(config_map["data"][name], encoding="utf-8")
        return load_settings({}, path, {}).settings


def complaints(rules: Sequence[Rule], documents: Documents) -> list[str]:
    return [text for rule in rules for text in rule(documents)]


_OVERLAY_OF_KIND = {"CronJob": "nightly", "Deployment": "serve", "Service": "serve", "Ingress": "serve"}


def complaints_when_broken(rules: Sequence[Rule], path: tuple[Any, ...], value: Any) -> list[str]:
    """
    Return the complaints if the field at *path* (a kind, then keys) has *value*; None removes the field.

    A rule that cannot read the changed document has no complaint.
    """
    documents = copy.deepcopy(read(CONFIG / "overlays" / _OVERLAY_OF_KIND.get(path[0], "backfill")))
    (target, *_) = of_kind(documents, path[0])
    for step in path[1:-1]:
        target = target[step]
    if value is None:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    found = []
    for rule in rules:
        try:
            found += list(rule(documents))
        except (KeyError, ValueError):
            continue
    return found
