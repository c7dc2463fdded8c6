"""Check permissions, resources and references of the pods in the manifests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bulkdl.cli.run import run as run_command
from bulkdl.cli.serve import serve as serve_command
from bulkdl.settings.load import variable_names
from bulkdl.settings.parsers import SHARD_COUNT
from support.manifests import (
    ROOT,
    SECRETS,
    Documents,
    deployments,
    environment,
    named,
    of_kind,
    pods,
    settings_of,
)

# Maximum time to close the ledger after the shutdown timeout.
SLACK_S = 10


def names_lead_somewhere(documents: Documents) -> Iterator[str]:
    for name, pod, container in pods(documents):
        yield from _missing(documents, name, "ServiceAccount", pod["serviceAccountName"])
        for volume in pod["volumes"]:
            if "configMap" in volume:
                yield from _missing(documents, name, "ConfigMap", volume["configMap"]["name"])
            elif "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                yield from _missing(documents, name, "PersistentVolumeClaim", claim)
            elif volume.get("secret", {}).get("secretName") not in SECRETS:
                yield f"{name}: volume {volume['name']} leads nowhere"
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        if volumes != mounted:
            yield f"{name}: volumes {sorted(volumes)} and mounts {sorted(mounted)} differ"


def _missing(documents: Documents, name: str, kind: str, expected: str) -> Iterator[str]:
    if not named(documents, kind, expected):
        yield f"{name}: there is no {kind} {expected}"


def files_are_where_the_environment_says(documents: Documents) -> Iterator[str]:
    for name, pod, container in pods(documents):
        env = environment(container)
        kinds = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: kinds[mount["name"]] for mount in container["volumeMounts"]}
        secret = next(each for each, files in SECRETS.items() if env.keys() & files.keys())
        keys = set()
        for variable in SECRETS[secret]:
            path = Path(env.get(variable, "/nowhere"))
            keys.add(path.name)
            if mounts.get(str(path.parent), {}).get("secret", {}).get("secretName") != secret:
                yield f"{name}: {variable} is not in the Secret's mount"
        if keys != set(SECRETS[secret].values()):
            yield f"{name}: the Secret has {sorted(SECRETS[secret].values())}, not {sorted(keys)}"
        config = Path(env["BULKDL_CONFIG"])
        if "configMap" not in mounts.get(str(config.parent), {}):
            yield f"{name}: BULKDL_CONFIG is not in the ConfigMap's mount"
        output = env["BULKDL_OUTPUT"]
        if not any(output.startswith(at) and "persistentVolumeClaim" in what for at, what in mounts.items()):
            yield f"{name}: BULKDL_OUTPUT is not on the volume"


def no_secret_is_in_the_open(documents: Documents) -> Iterator[str]:
    if of_kind(documents, "Secret"):
        yield "a Secret is no file of a repository"
    for name, _, container in pods(documents):
        for variable in environment(container):
            if re.search(r"KEY|PASSWORD|TOKEN", variable) and not variable.endswith("_FILE"):
                yield f"{name}: {variable} holds a secret; use {variable}_FILE"


def pods_keep_to_the_restricted_profile(documents: Documents) -> Iterator[str]:
    for name, pod, container in pods(documents):
        context, inner = pod.get("securityContext", {}), container.get("securityContext", {})
        expected = {
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser", 0) > 0,
            "seccompProfile": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
            "allowPrivilegeEscalation": inner.get("allowPrivilegeEscalation") is False,
            "capabilities": inner.get("capabilities") == {"drop": ["ALL"]},
            "readOnlyRootFilesystem": inner.get("readOnlyRootFilesystem") is True,
            "fsGroup": context.get("fsGroup") == context.get("runAsGroup"),
            "automountServiceAccountToken": pod.get("automountServiceAccountToken") is False,
            "host namespaces": not {"hostNetwork", "hostPID", "hostIPC"} & set(pod),
            "volumes": not any("hostPath" in volume for volume in pod["volumes"]),
        }
        for field, holds in expected.items():
            if not holds:
                yield f"{name}: {field} is not as the restricted profile (and a read-only root) wants it"


def the_user_is_the_images(documents: Documents) -> Iterator[str]:
    (user,) = re.findall(
        r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )
    for name, pod, _ in pods(documents):
        context = pod["securityContext"]
        if (str(context.get("runAsUser")), str(context.get("runAsGroup"))) != user:
            yield f"{name}: the image's user is {user}"


def resources_are_bounded(documents: Documents) -> Iterator[str]:
    for name, _, container in pods(documents):
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= set(resources.get("requests", {})):
            yield f"{name}: cpu and memory must be requested"
        if "memory" not in resources.get("limits", {}):
            yield f"{name}: memory has no limit"
        if "cpu" in resources.get("limits", {}):
            yield f"{name}: a limit on cpu slows TLS down in bursts and saves nothing"


def the_grace_fits(documents: Documents) -> Iterator[str]:
    for name, pod, _ in pods(documents):
        grace_s = settings_of(documents, pod).shutdown_timeout
        kill_s = pod["terminationGracePeriodSeconds"]
        if grace_s + SLACK_S > kill_s:
            limit = f"terminationGracePeriodSeconds {kill_s}"
            yield f"{name}: grace {grace_s:g} s must be {SLACK_S} s below {limit}"


def arguments_and_variables_are_bulkdls(documents: Documents) -> Iterator[str]:
    known = {*variable_names().values(), "BULKDL_CONFIG", SHARD_COUNT}
    services = [name for name, _ in deployments(documents)]
    for name, _, container in pods(documents):
        command = serve_command if name in services else run_command
        flags = {flag for option in command.params for flag in option.opts}
        if "command" in container:
            yield f"{name}: the image's entry point is bulkdl itself"
        if container["args"][0] != command.name:
            yield f"{name}: expected the command {command.name}"
        for argument in container["args"]:
            if argument.startswith("-") and argument not in flags:
                yield f"{name}: {command.name} has no {argument}"
        for variable in environment(container):
            if variable.startswith("BULKDL_") and variable not in known:
                yield f"{name}: {variable} is no setting"


RULES = [
    names_lead_somewhere,
    files_are_where_the_environment_says,
    no_secret_is_in_the_open,
    pods_keep_to_the_restricted_profile,
    the_user_is_the_images,
    resources_are_bounded,
    the_grace_fits,
    arguments_and_variables_are_bulkdls,
]
