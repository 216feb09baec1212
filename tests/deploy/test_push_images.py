"""Images pushed to ECR: moto for its API, a local registry for the bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import pytest
from moto import mock_aws

from benchmarks.server import free_ports
from deploy.aws import push_images
from deploy.aws.push_images import Engine, Image, Registry, RegistryError
from tests.server import ROOT

if TYPE_CHECKING:
    from types_boto3_ecr import ECRClient

HOST = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"})


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[ECRClient]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("ecr", region_name="eu-central-1")


@pytest.fixture(scope="module")
def local_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real registry on the loopback; ECR uses the same protocol."""
    folder = tmp_path_factory.mktemp("registry")
    (port,) = free_ports(1)
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        host = f"127.0.0.1:{port}"
        deadline = time.monotonic() + 20
        while True:
            try:
                httpx.get(f"http://{host}/v2/")
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield host
        process.terminate()


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """Build a minimal image in a separate store."""
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/store"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    (tmp_path / "auth.json").write_text("{}")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    image = Image("server", "9.9.9")
    command = ["buildah", "build", "--isolation", "chroot", "--tag", image.tag, str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    return image


def test_a_new_repository_is_immutable_and_scanned(ecr: ECRClient) -> None:
    push_images.prepare_repository(ecr, "radserve/server")
    (repository,) = ecr.describe_repositories(repositoryNames=["radserve/server"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_an_existing_repository_becomes_immutable_and_scanned(ecr: ECRClient) -> None:
    ecr.create_repository(repositoryName="radserve/server", imageTagMutability="MUTABLE")
    push_images.prepare_repository(ecr, "radserve/server")
    (repository,) = ecr.describe_repositories(repositoryNames=["radserve/server"])["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}


def test_pushed_image_is_complete_in_the_registry(ecr: ECRClient, local_registry: str, built: Image) -> None:
    class Local(Engine):
        """Engine for the local registry, which has neither a password nor TLS."""

        def login(self, host: str, user: str, password: str) -> None:
            assert (host, user) == (local_registry, "AWS")
            assert password

        def push(self, image: Image, target: str) -> None:
            self._run("tag", image.tag, target)
            self._run("push", "--tls-verify=false", target)

    push_images.push(ecr, Local("buildah"), local_registry, [built])
    manifest = httpx.get(
        f"http://{local_registry}/v2/radserve/server/manifests/9.9.9",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    ).json()
    for blob in [manifest["config"], *manifest["layers"]]:
        data = httpx.get(f"http://{local_registry}/v2/radserve/server/blobs/{blob['digest']}").content
        assert len(data) == blob["size"]


def test_existing_version_is_rejected_before_any_push(ecr: ECRClient) -> None:
    push_images.prepare_repository(ecr, "radserve/server-cpu")
    ecr.put_image(repositoryName="radserve/server-cpu", imageManifest=MANIFEST, imageTag="1.0.0")
    images = [Image("server", "1.0.0"), Image("server-cpu", "1.0.0")]
    with pytest.raises(RegistryError, match=r"radserve/server-cpu:1\.0\.0 exists, and tags are immutable; raise"):
        push_images.push(ecr, Engine("false"), HOST, images)


def test_engine_failure_includes_its_error_output(local_registry: str, built: Image) -> None:
    with pytest.raises(RegistryError, match=r"'buildah push' failed: .+"):
        Engine("buildah").push(built, f"{local_registry}/{built.tag}")


@pytest.mark.parametrize(
    "host", ["docker.io", "1234.dkr.ecr.eu-central-1.amazonaws.com", f"https://{HOST}", f"{HOST}/x"]
)
def test_registry_with_another_form_is_rejected(host: str) -> None:
    with pytest.raises(RegistryError, match="does not have the form ACCOUNT"):
        Registry.parse(host)


def test_account_and_region_are_read_from_the_host() -> None:
    assert Registry.parse(HOST) == Registry(HOST, "123456789012", "eu-central-1")


def test_command_reports_an_invalid_registry_in_one_line() -> None:
    command = [sys.executable, "-m", "deploy.aws.push_images", "docker.io"]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ)
    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        "push-images: Registry 'docker.io' does not have the form ACCOUNT.dkr.ecr.REGION.amazonaws.com."
    ]
