"""Check the pod failure policies and the shards of the Jobs in the manifests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from bulkdl.failure_policy import ExitCode
from bulkdl.settings.hosts import UP42_MAX_RATE
from bulkdl.settings.parsers import SHARD_COUNT, SHARD_INDEX
from support.manifests import (
    Document,
    Documents,
    environment,
    jobs,
    named,
    of_kind,
    settings_of,
)

KILLED = 137  # by SIGKILL: out of memory, or the grace period has ended
A_DAY_S = 86400
# Exit codes and their actions. A Job that is not Indexed uses FailJob instead of FailIndex.
CONSEQUENCES = {
    ExitCode.USAGE: "FailJob",
    ExitCode.NOT_FOUND: "FailJob",
    ExitCode.CREDENTIALS: "FailJob",
    ExitCode.FAILED: "FailIndex",
    ExitCode.DISK_FULL: "FailIndex",
    ExitCode.BUG: "Count",
    ExitCode.TEMPORARY: "Count",
    ExitCode.LOCKED: "Count",
    ExitCode.TERMINATED: "Count",
    KILLED: "Count",
}


def policy(spec: Document) -> list[Document]:
    rules: list[Document] = spec.get("podFailurePolicy", {}).get("rules", [])
    return rules


def action_of(spec: Document, exit_code: int, *, disrupted: bool = False) -> str:
    """Return the action of the Job for a pod with this end: the first matching rule, otherwise Count."""
    for rule in policy(spec):
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        if disrupted and any(each["type"] == "DisruptionTarget" for each in conditions):
            return str(rule["action"])
        if codes and (exit_code in codes["values"]) is (codes["operator"] == "In"):
            return str(rule["action"])
    return "Count"


def exit_codes_are_written_as_the_api_wants_them(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        containers = {container["name"] for container in spec["template"]["spec"]["containers"]}
        for number, rule in enumerate(policy(spec)):
            if ("onExitCodes" in rule) == ("onPodConditions" in rule):
                yield f"{name}: rule {number} needs one of onExitCodes and onPodConditions"
            codes = rule.get("onExitCodes", {"values": [1], "operator": "In"})
            values = codes["values"]
            if values != sorted(set(values)):
                yield f"{name}: rule {number}: {values} is not in order, or has one twice"
            if codes["operator"] == "In" and 0 in values:
                yield f"{name}: rule {number}: 0 is no failure"
            if codes.get("containerName", "bulkdl") not in containers:
                yield f"{name}: rule {number}: there is no container {codes['containerName']}"
        if len(policy(spec)) > 20:
            yield f"{name}: more than 20 rules"


def exit_codes_are_ones_that_bulkdl_has(documents: Documents) -> Iterator[str]:
    known = {int(code) for code in ExitCode}
    for name, spec in jobs(documents):
        for rule in policy(spec):
            for code in set(rule.get("onExitCodes", {}).get("values", ())) - known:
                yield f"{name}: bulkdl never ends with {code}"


def each_end_has_the_right_consequence(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        indexed = spec.get("completionMode") == "Indexed"
        for code, wanted in CONSEQUENCES.items():
            expected = wanted if indexed else wanted.replace("FailIndex", "FailJob")
            if action_of(spec, code) != expected:
                yield f"{name}: exit code {int(code)} must lead to {expected}"
        if action_of(spec, ExitCode.TERMINATED, disrupted=True) != "Ignore":
            yield f"{name}: an eviction must not spend a try, and it ends with 143: its rule comes first"


def a_policy_on_exit_codes_has_what_it_depends_on(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        if not policy(spec):
            yield f"{name}: has no podFailurePolicy"
        if spec["template"]["spec"].get("restartPolicy") != "Never":
            yield f"{name}: podFailurePolicy needs restartPolicy Never"
        if spec.get("podReplacementPolicy") != "Failed":
            yield f"{name}: with podFailurePolicy, podReplacementPolicy is Failed"


def failing_by_index_has_what_it_depends_on(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        if "backoffLimitPerIndex" in spec:
            if spec.get("completionMode") != "Indexed":
                yield f"{name}: backoffLimitPerIndex needs completionMode Indexed"
        elif "FailIndex" in [rule["action"] for rule in policy(spec)]:
            yield f"{name}: FailIndex needs backoffLimitPerIndex"
        elif "maxFailedIndexes" in spec:
            yield f"{name}: maxFailedIndexes needs backoffLimitPerIndex"
        if spec.get("maxFailedIndexes", 0) > spec.get("completions", 1):
            yield f"{name}: more failed indexes than completions"


def retries_outlast_the_lease_of_a_dead_pod(documents: Documents) -> Iterator[str]:
    """The controller waits 10 s, 20 s, … 10 min. A lease expires one minute after the last heartbeat."""
    for name, spec in jobs(documents):
        limit = spec.get("backoffLimitPerIndex", spec.get("backoffLimit", 6))
        if sum(min(10 * 2**each, 600) for each in range(limit)) < 2 * 60:
            yield f"{name}: {limit} retries are over before the lease of a killed pod is"


def shards_are_told_and_counted(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        container = spec["template"]["spec"]["containers"][0]
        env = environment(container)
        names = [entry["name"] for entry in container["env"]]
        if ("auto" in container["args"]) != (SHARD_COUNT in env):
            yield f"{name}: --shard auto and {SHARD_COUNT} go together"
        if spec.get("completionMode") == "Indexed" and str(spec["completions"]) != env.get(SHARD_COUNT):
            yield f"{name}: completions {spec['completions']} and {SHARD_COUNT} differ"
        if spec.get("parallelism", 1) > spec.get("completions", 1):
            yield f"{name}: more pods at a time than shards"
        for number, entry in enumerate(container["env"]):
            for used in re.findall(r"\$\((\w+)\)", entry.get("value", "")):
                if used not in names[:number]:
                    yield f"{name}: {entry['name']} refers to {used}, which is not defined above it"


def shards_do_not_share_a_directory(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        output = environment(spec["template"]["spec"]["containers"][0])["BULKDL_OUTPUT"]
        if (spec.get("completionMode") == "Indexed") != (f"$({SHARD_INDEX})" in output):
            yield f"{name}: {output}: each shard has a directory, and so a ledger, of its own"


def pods_on_several_nodes_share_what_can_be_shared(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        for volume in spec["template"]["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            for found in named(documents, "PersistentVolumeClaim", claim):
                modes = found["spec"]["accessModes"]
                if spec.get("parallelism", 1) > 1 and modes != ["ReadWriteMany"]:
                    yield f"{name}: several pods at a time, but {claim} is {modes}"


def together_they_stay_below_what_up42_allows(documents: Documents) -> Iterator[str]:
    total = 0.0
    for _, spec in jobs(documents):
        pod = spec["template"]["spec"]
        settings = settings_of(documents, pod)
        total += settings.rate * spec.get("parallelism", 1)
    if total > UP42_MAX_RATE:
        yield f"together {total:g} requests a second are more than {UP42_MAX_RATE:g}"


def no_job_runs_for_ever(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        if "activeDeadlineSeconds" not in spec:
            yield f"{name}: may run for ever"


def time_is_up_before_the_job_is_stopped(documents: Documents) -> Iterator[str]:
    for name, spec in jobs(documents):
        settings = settings_of(documents, spec["template"]["spec"])
        if settings.max_duration + settings.shutdown_timeout >= spec["activeDeadlineSeconds"]:
            yield f"{name}: max_duration {settings.max_duration:g} s is not below activeDeadlineSeconds"


def nights_never_meet(documents: Documents) -> Iterator[str]:
    for document in of_kind(documents, "CronJob"):
        spec = document["spec"]
        ZoneInfo(spec["timeZone"])
        if spec.get("concurrencyPolicy") != "Forbid":
            yield "CronJob: two nights must not meet"
        start_s, run_s = spec["startingDeadlineSeconds"], spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]
        if start_s < 10:
            yield "CronJob: below ten seconds nothing may ever start"
        if start_s + run_s >= A_DAY_S:
            yield "CronJob: a night must be over before the next"
        if not {"successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= set(spec):
            yield "CronJob: has no limits on its history"


RULES = [
    exit_codes_are_written_as_the_api_wants_them,
    exit_codes_are_ones_that_bulkdl_has,
    each_end_has_the_right_consequence,
    a_policy_on_exit_codes_has_what_it_depends_on,
    failing_by_index_has_what_it_depends_on,
    retries_outlast_the_lease_of_a_dead_pod,
    shards_are_told_and_counted,
    shards_do_not_share_a_directory,
    pods_on_several_nodes_share_what_can_be_shared,
    together_they_stay_below_what_up42_allows,
    no_job_runs_for_ever,
    time_is_up_before_the_job_is_stopped,
    nights_never_meet,
]
