"""Fixtures: a shared moto server, and `radserve deploy` with its endpoint."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.loaders import create_loader
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from radserve.deploy.settings import load
from tests import command_line
from tests.moto import running

ROOT = Path(__file__).resolve().parents[3]
REGION = "eu-central-1"
ACCOUNT = "123456789012"
_loader = cache(create_loader)


@dataclass(frozen=True)
class Aws:
    """moto's AWS, empty before each test."""

    url: str
    folder: Path

    def client(self, service: Any) -> Any:
        """Return a client."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def certificate(self) -> str:
        """Import a certificate into ACM and return its ARN."""
        certificate, key = _certificate()
        return str(self.client("acm").import_certificate(Certificate=certificate, PrivateKey=key)["CertificateArn"])

    def provide(self, *arguments: str, target: str = "server-cpu", tag: str = "0.1.0") -> str:
        """Create storage and secrets of an environment, push an image and store keys; return the image's digest."""
        self.deploy("apply", *arguments, "--stack", "storage", "--stack", "secrets", "--yes")
        (secret,) = self.client("secretsmanager").list_secrets(
            Filters=[{"Key": "name", "Values": [f"radserve/{load(Path(arguments[0])).environment}/api-keys"]}]
        )["SecretList"]
        self.client("secretsmanager").put_secret_value(SecretId=secret["ARN"], SecretString='{"keys": []}')
        return self.push(target, tag)

    def push(self, target: str, tag: str) -> str:
        """Push an image and return its digest."""
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        digest = f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": {"digest": digest}, "layers": []}
        image = self.client("ecr").put_image(
            repositoryName=f"radserve/{target}", imageManifest=json.dumps(manifest), imageTag=tag
        )["image"]
        return str(image["imageId"]["imageDigest"])

    def file(self, text: str) -> Path:
        """Write an environment's file."""
        path = self.folder / "environment.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def deploy(self, *arguments: str, answer: str = "", code: int = 0, **variables: str) -> str:
        """Run `radserve deploy` in this process, check its exit code, and return its output."""
        environment = self._environment() | variables
        done = command_line.run("deploy", *arguments, stdin=answer.encode(), environment=environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def deploy_process(self, *arguments: str, code: int, **variables: str) -> str:
        """Run `radserve deploy` as a process."""
        process = subprocess.run(
            [sys.executable, "-m", "radserve", "deploy", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=self._environment() | variables,
            timeout=120,
            check=False,
        )
        assert process.returncode == code, process.stdout + process.stderr
        return process.stdout + process.stderr

    def _environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        missing = str(self.folder / "missing")
        return inherited | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": missing,
            "AWS_SHARED_CREDENTIALS_FILE": missing,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@cache
def _certificate() -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "radserve.example.org")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    signed = certificate.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return signed.public_bytes(pem), private


@pytest.fixture(autouse=True)
def _service_models_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share boto3's descriptions of services, which each session of `radserve deploy` would read again."""
    monkeypatch.setattr("botocore.session.create_loader", _loader)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run moto's server; see moto_server.py."""
    folder = tmp_path_factory.mktemp("moto")
    with running("tests.radserve.deploy.moto_server", "moto-api/data.json", folder) as url:
        yield url


@pytest.fixture
def aws(moto: str, tmp_path: Path) -> Aws:
    """An empty AWS."""
    httpx.post(f"{moto}/moto-api/reset").raise_for_status()
    return Aws(moto, tmp_path)
