"""Pod rules: permissions, resources, and existing references."""

from __future__ import annotations

import pytest

from support.manifest_rules_pods import RULES
from support.manifests import CONFIG, OVERLAYS, Break, complaints, complaints_when_broken, read, workloads

pytestmark = pytest.mark.kubernetes

POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
CRON = ("spec", "jobTemplate", "spec")

BREAKS: list[Break] = [
    (("Job", *CONTAINER, "args"), ["run", "--shards", "auto"], "run has no --shards"),
    (("Job", *CONTAINER, "env", 1, "name"), "BULKDL_SHARD_COUNT", "BULKDL_SHARD_COUNT is no setting"),
    (("Job", *CONTAINER, "env", 3, "value"), "/out/$(JOB_COMPLETION_INDEX)", "is not on the volume"),
    (("Job", *CONTAINER, "env", 5, "value"), "/run/project-id", "is not in the Secret's mount"),
    (("Job", *CONTAINER, "env", 6), {"name": "UP42_PROJECT_API_KEY", "value": "k"}, "holds a secret"),
    (("Job", *CONTAINER, "securityContext", "readOnlyRootFilesystem"), False, "readOnlyRootFilesystem"),
    (("Job", *CONTAINER, "securityContext", "capabilities"), {}, "capabilities"),
    (("Job", *CONTAINER, "resources", "limits"), {}, "memory has no limit"),
    (("Job", *POD, "securityContext", "runAsUser"), 1000, "the image's user"),
    (("Job", *POD, "securityContext", "runAsNonRoot"), False, "runAsNonRoot"),
    (("Job", *POD, "terminationGracePeriodSeconds"), 95, "must be 10 s below"),
    (("Job", *POD, "serviceAccountName"), "default", "no ServiceAccount default"),
    (("Job", *POD, "volumes", 0, "persistentVolumeClaim", "claimName"), "x", "no PersistentVolumeClaim x"),
    (("Job", *POD, "volumes", 1, "name"), "toml", "differ"),
    (("Job", *POD, "volumes", 2, "secret", "secretName"), "x", "leads nowhere"),
    (("CronJob", *CRON, "template", "spec", "terminationGracePeriodSeconds"), 30, "must be 10 s below"),
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
