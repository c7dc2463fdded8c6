"""Validate the output of kustomize for config/kubernetes against schemas and rules."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support import manifest_rules_network, manifest_rules_pods, manifest_rules_policy, manifest_rules_service
from support.container_engine import TOOLS, called
from support.manifests import CONFIG, Documents, complaints, of_kind, workloads

OVERLAYS = sorted(path.name for path in (CONFIG / "overlays").iterdir())
# podReplacementPolicy and the limits per index are enabled by default since 1.29, stable in 1.33 and 1.34.
VERSIONS = ("1.29", "1.33", "1.37")
RULES = [
    *manifest_rules_policy.RULES,
    *manifest_rules_pods.RULES,
    *manifest_rules_network.RULES,
    *manifest_rules_service.RULES,
]


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rendered") / f"{request.param}.yaml"
    path.write_text(called(TOOLS / "kubectl", "kustomize", CONFIG / "overlays" / request.param).stdout)
    return path


@pytest.fixture
def documents(rendered: Path) -> Documents:
    return [document for document in yaml.safe_load_all(rendered.read_text()) if document]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_have_nothing_to_say(rendered, version):
    done = called(TOOLS / "kubernetes-validate", "--strict", "-k", version, rendered, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO")]
    # The validator has no schema for the kind of the operator.
    assert [line for line in lines if "Couldn't find schema for kind PodMonitor" not in line] == []
    assert done.returncode == 0
    assert "passed for resource" in done.stdout + done.stderr


def test_the_schemas_are_strict(rendered, tmp_path):
    """The validator must reject an invalid manifest."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(rendered.read_text().replace("securityContext:", "securityContexts:"))
    done = called(TOOLS / "kubernetes-validate", "--strict", "-k", VERSIONS[-1], wrong, check=False)
    assert done.returncode != 0


def test_every_rule_between_fields_is_kept(documents):
    assert list(workloads(documents))
    assert complaints(RULES, documents) == []


def test_a_change_of_the_config_is_a_change_of_its_name(documents):
    """A pod that starts later must not read a newer config than that of its Job."""
    for config_map in of_kind(documents, "ConfigMap"):
        assert config_map["metadata"]["name"].rpartition("-")[2].isalnum()
        assert len(config_map["metadata"]["name"].rpartition("-")[2]) == 10


def test_the_image_has_a_registry_and_a_version(documents):
    for _, spec in workloads(documents):
        image = spec["template"]["spec"]["containers"][0]["image"]
        name, _, tag = image.rpartition(":")
        assert "/" in name
        assert tag not in ("", "latest")
