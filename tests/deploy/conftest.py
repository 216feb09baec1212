"""Fixtures: deploy/kubernetes built by kustomize."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.manifests import build
from tests.server import ROOT

SOURCE = ROOT / "deploy" / "kubernetes"
SECRETS = {
    "base/secrets/api_keys.json": '{"keys": []}',
    "base/secrets/tls.crt": "a certificate",
    "base/secrets/tls.key": "its key",
    "components/service-monitor/secrets/prometheus_key": "a key",
    "components/service-monitor/secrets/tls.crt": "a certificate",
    "components/site-profile/profiles/chest-xray-cnn.profile.json": "{}",
    "components/site-profile/profiles/site.key.pub": "a key",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the folder and add the files that are not committed."""
    copied = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(SOURCE, copied)
    for name, text in SECRETS.items():
        (copied / name).write_text(text)
    return copied


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def built(folder: Path, overlay: str) -> list[dict[str, Any]]:
    return build(folder / "overlays" / overlay)


@pytest.fixture(scope="module")
def whole(folder: Path, overlay: str) -> list[dict[str, Any]]:
    """Build with all components, by uncommenting the line that lists them."""
    path = folder / "overlays" / overlay / "kustomization.yaml"
    before = path.read_text()
    changed, count = re.subn(r"^# (components: )", r"\1", before, flags=re.MULTILINE)
    assert count == 1
    path.write_text(changed)
    try:
        return build(path.parent)
    finally:
        path.write_text(before)
