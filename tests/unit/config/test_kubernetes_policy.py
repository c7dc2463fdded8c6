"""Job rules: the reaction to each exit code, and the shards."""

from __future__ import annotations

import pytest

from support.manifest_rules_policy import RULES
from support.manifests import CONFIG, OVERLAYS, Break, complaints, complaints_when_broken, read, workloads

pytestmark = pytest.mark.kubernetes

RULE = ("spec", "podFailurePolicy", "rules")
POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
CRON = ("spec", "jobTemplate", "spec")

BREAKS: list[Break] = [
    (("Job", *RULE, 0, "onExitCodes", "values", 2), 5, "exit code 7 must lead to FailJob"),
    (("Job", *RULE, 0, "onExitCodes", "values"), [4, 2, 7], "not in order"),
    (("Job", *RULE, 3, "onExitCodes", "values"), [0, 5], "0 is no failure"),
    (("Job", *RULE, 0, "onExitCodes", "values"), [2, 4, 7, 9], "never ends with 9"),
    (("Job", *RULE, 3, "action"), "Ignore", "exit code 5 must lead to Count"),
    (("Job", *RULE, 1, "onPodConditions", 0, "type"), "Ready", "an eviction must not spend a try"),
    (("Job", *RULE, 0, "onExitCodes", "containerName"), "main", "there is no container main"),
    (("Job", *RULE, 0, "onPodConditions"), [], "needs one of"),
    (("Job", *POD, "restartPolicy"), "OnFailure", "restartPolicy Never"),
    (("Job", "spec", "podReplacementPolicy"), "TerminatingOrFailed", "podReplacementPolicy is Failed"),
    (("Job", "spec", "backoffLimitPerIndex"), None, "FailIndex needs"),
    (("Job", "spec", "backoffLimitPerIndex"), 2, "over before the lease"),
    (("Job", "spec", "completionMode"), "NonIndexed", "needs completionMode Indexed"),
    (("Job", "spec", "maxFailedIndexes"), 9, "more failed indexes"),
    (("Job", "spec", "podFailurePolicy"), None, "has no podFailurePolicy"),
    (("Job", "spec", "activeDeadlineSeconds"), None, "may run for ever"),
    (("Job", "spec", "completions"), 9, "completions 9 and BULKDL_SHARDS differ"),
    (("Job", "spec", "parallelism"), 6, "together 120 requests"),
    (("Job", *CONTAINER, "args"), ["run"], "go together"),
    (("Job", *CONTAINER, "env", 0, "name"), "INDEX", "not defined above it"),
    (("Job", *CONTAINER, "env", 3, "value"), "/data", "a directory, and so a ledger, of its own"),
    (("PersistentVolumeClaim", "spec", "accessModes"), ["ReadWriteOnce"], "several pods at a time"),
    (("CronJob", "spec", "concurrencyPolicy"), "Allow", "two nights"),
    (("CronJob", "spec", "startingDeadlineSeconds"), 5, "below ten seconds"),
    (("CronJob", *CRON, "activeDeadlineSeconds"), 86000, "before the next"),
    (("CronJob", *CRON, "activeDeadlineSeconds"), 25000, "not below activeDeadlineSeconds"),
    (("CronJob", *CRON, "podFailurePolicy", "rules", 1, "action"), "Count", "must lead to FailJob"),
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
