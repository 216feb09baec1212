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
from radserve.deploy import ecr as registry
from radserve.deploy.ecr import Engine, Image, Registry
from radserve.errors import RegistryError
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
    """Run a real registry on the loopback: ECR's own protocol for images is the same."""
    folder = tmp_path_factory.mktemp("registry")
    (port,) = free_ports(1)
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    words = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("w") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
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
    """Build the smallest image there is, in a store of its own."""
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/store"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    (tmp_path / "auth.json").write_text("{}")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    image = Image("server", "9.9.9")
    words = ["buildah", "build", "--isolation", "chroot", "--tag", image.tag, str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True)
    return image


def test_a_missing_repository_is_made_immutable_and_scanned(ecr: ECRClient) -> None:
    assert registry.prepare(ecr, "radserve/server")
    (found,) = ecr.describe_repositories(repositoryNames=["radserve/server"])["repositories"]
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}


def test_a_repository_that_is_there_becomes_immutable_and_scanned(ecr: ECRClient) -> None:
    ecr.create_repository(repositoryName="radserve/server", imageTagMutability="MUTABLE")
    assert not registry.prepare(ecr, "radserve/server")
    (found,) = ecr.describe_repositories(repositoryNames=["radserve/server"])["repositories"]
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}


def test_an_image_arrives_whole_in_a_registry(ecr: ECRClient, local_registry: str, built: Image) -> None:
    class Local(Engine):
        """ECR takes a password and TLS, the local registry neither."""

        def login(self, host: str, user: str, password: str) -> None:
            assert (host, user) == (local_registry, "AWS")
            assert password

        def push(self, image: Image, target: str) -> None:
            self._run("tag", image.tag, target)
            self._run("push", "--tls-verify=false", target)

    registry.push(ecr, Local("buildah"), local_registry, [built])
    manifest = httpx.get(
        f"http://{local_registry}/v2/radserve/server/manifests/9.9.9",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    ).json()
    for blob in [manifest["config"], *manifest["layers"]]:
        data = httpx.get(f"http://{local_registry}/v2/radserve/server/blobs/{blob['digest']}").content
        assert len(data) == blob["size"]


def test_a_version_that_is_there_is_refused_before_anything_is_pushed(ecr: ECRClient) -> None:
    registry.prepare(ecr, "radserve/server-cpu")
    ecr.put_image(repositoryName="radserve/server-cpu", imageManifest=MANIFEST, imageTag="1.0.0")
    images = [Image("server", "1.0.0"), Image("server-cpu", "1.0.0")]
    with pytest.raises(RegistryError, match=r"radserve/server-cpu:1\.0\.0 exists, and tags never change; raise"):
        registry.push(ecr, Engine("false"), HOST, images)


def test_a_failing_engine_says_what_it_said(local_registry: str, built: Image) -> None:
    with pytest.raises(RegistryError, match=r"'buildah push' failed: .+"):
        Engine("buildah").push(built, f"{local_registry}/{built.tag}")


@pytest.mark.parametrize(
    "host", ["docker.io", "1234.dkr.ecr.eu-central-1.amazonaws.com", f"https://{HOST}", f"{HOST}/x"]
)
def test_what_is_no_ecr_registry_is_refused(host: str) -> None:
    with pytest.raises(RegistryError, match="is not of the form ACCOUNT"):
        Registry.parse(host)


def test_account_and_region_are_read_from_the_host() -> None:
    assert Registry.parse(HOST) == Registry(HOST, "123456789012", "eu-central-1")


def test_the_command_says_in_one_line_what_is_wrong() -> None:
    words = [sys.executable, "-m", "radserve.deploy.ecr", "docker.io"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "push-images: Registry 'docker.io' is not of the form ACCOUNT.dkr.ecr.REGION.amazonaws.com."
    ]
