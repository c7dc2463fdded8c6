"""Files below config/kubernetes: completeness, versions, and the settings in each ConfigMap."""

from __future__ import annotations

import re

import pytest
import yaml

from bulkdl.settings import Settings, load_settings
from support.manifests import CONFIG, ROOT, SECRETS

pytestmark = pytest.mark.kubernetes


@pytest.mark.parametrize(
    "path", sorted(CONFIG.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIG))
)
def test_kustomization_lists_every_file_and_every_image_has_a_version(path):
    if path.name != "kustomization.yaml":
        kustomization = yaml.safe_load((path.parent / "kustomization.yaml").read_text(encoding="utf-8"))
        assert path.name in kustomization["resources"]
        return
    for image in yaml.safe_load(path.read_text(encoding="utf-8")).get("images", []):
        assert re.fullmatch(r"\d+\.\d+\.\d+", image["newTag"])


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.toml")), ids=lambda path: path.parent.name)
def test_config_map_is_valid_and_does_not_set_keys_of_the_pod(path):
    settings = load_settings({}, path, {}).settings
    assert settings != Settings()
    assert settings.output is None
    assert settings.shard is None
    assert settings.projects == ()


@pytest.mark.parametrize("secret", SECRETS)
def test_page_documents_how_to_create_the_secret(secret):
    text = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    command = re.search(rf"kubectl .*create secret generic {secret}((?: \\\n|.)*)", text)
    assert command is not None
    assert set(re.findall(r"--from-file=([\w-]+)", command[0])) == set(SECRETS[secret].values())
