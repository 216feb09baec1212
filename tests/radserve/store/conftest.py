"""Fixtures: a moto server for all tests, a bucket per test, key pairs, and the command line."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import boto3
import httpx
import pytest
import stamina

from radserve.cli.main import main
from radserve.store import object_storage, signature
from tests import moto

REGION = "eu-central-1"


@cache
def client(url: str, service: Any) -> Any:
    """Return a client; creating one takes a quarter of a second."""
    return boto3.client(
        service, endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


@dataclass(frozen=True)
class Aws:
    """AWS on loopback, with a bucket for one test."""

    url: str
    bucket: str = field(default_factory=lambda: f"models-{uuid4().hex[:12]}")

    @property
    def store(self) -> str:
        return f"s3://{self.bucket}/radserve"

    def client(self, service: Any) -> Any:
        return client(self.url, service)

    def fail(self, *faults: dict[str, Any]) -> None:
        """Replace the faults and clear the recorded requests; see tests.radserve.store.moto_server."""
        httpx.post(f"{self.url}/faults", json=faults).raise_for_status()

    def requests(self) -> list[dict[str, str]]:
        """Return the requests since the last call of `fail`."""
        requests: list[dict[str, str]] = httpx.get(f"{self.url}/requests").json()
        return requests

    def enforce_permissions_after(self, count: str) -> None:
        """Check IAM permissions after this number of requests; "inf" turns the check off."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content=count).raise_for_status()

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        objects = self.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [item["Key"].removeprefix("radserve/") for item in objects]


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run moto's server."""
    with moto.running("tests.radserve.store.moto_server", "requests", tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """Create an empty bucket and set the environment variables to use it."""
    aws = Aws(moto_url)
    aws.fail()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    aws.client("s3").create_bucket(Bucket=aws.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return aws


@dataclass(frozen=True)
class Pair:
    """Files of a key pair."""

    private: Path
    public: Path


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Create a key pair."""
    return make_pair(tmp_path / "store.key")


def make_pair(path: Path) -> Pair:
    signature.generate(path)
    return Pair(path, path.with_name(f"{path.name}.pub"))


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retry almost without pauses."""
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=20)}
    monkeypatch.setitem(object_storage.RETRIES, "backoff", backoff)
    with stamina.set_testing(True, attempts=3):
        yield


def command(*arguments: str | Path) -> list[str]:
    """Return a command line of `radserve store`."""
    return [sys.executable, "-m", "radserve", "store", *map(str, arguments)]


@dataclass(frozen=True)
class Output:
    """Output of a command."""

    stdout: str
    stderr: str


def run(*arguments: str | Path, code: int = 0) -> Output:
    """Run `radserve store` in this process and check its exit code."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["radserve", "store", *map(str, arguments)]
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", argv),
        patch.dict(os.environ, {"COLUMNS": "200", "TERM": "dumb"}),
    ):
        try:
            main()
        except SystemExit as error:
            exit_code = error.code or 0
        else:
            exit_code = 0
    assert exit_code == code, out.getvalue() + err.getvalue()
    return Output(out.getvalue(), err.getvalue())
