"""A moto server for all tests of the store, a bucket for each, and the command."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import boto3
import httpx
import pytest

from benchmarks.server import free_ports
from radserve.cli.main import main
from radserve.store import signing
from tests.conftest import ROOT

REGION = "eu-central-1"


@cache
def client(url: str, service: Any) -> Any:
    """Return a client; one takes a quarter of a second to make."""
    return boto3.client(
        service, endpoint_url=url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key="test"
    )


@dataclass(frozen=True)
class Aws:
    """AWS on loopback, with a bucket that nobody else uses."""

    url: str
    bucket: str = field(default_factory=lambda: f"models-{uuid4().hex[:12]}")

    @property
    def store(self) -> str:
        return f"s3://{self.bucket}/radserve"

    def client(self, service: Any) -> Any:
        return client(self.url, service)

    def fail(self, *faults: dict[str, Any]) -> None:
        """Let requests fail from now on; see tests.radserve.store.moto_server."""
        httpx.post(f"{self.url}/faults", json=faults).raise_for_status()

    def requests(self) -> list[dict[str, str]]:
        """Return the requests since the last call of `fail`."""
        found: list[dict[str, str]] = httpx.get(f"{self.url}/requests").json()
        return found

    def ask_for_rights(self, count: str) -> None:
        """Let requests from so many on need the rights that IAM gives them; "inf" for never."""
        httpx.post(f"{self.url}/moto-api/reset-auth", content=count).raise_for_status()

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        found = self.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [item["Key"].removeprefix("radserve/") for item in found]


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run moto's server."""
    (port,) = free_ports(1)
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    words = [sys.executable, "-m", "tests.radserve.store.moto_server", str(port)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        wait(process, f"{url}/requests")
        yield url
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def wait(process: subprocess.Popen[Any], url: str) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "the server stopped"
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server did not start")


@pytest.fixture
def aws(moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Aws:
    """An empty bucket, and an environment that names it to boto3."""
    found = Aws(moto_url)
    found.fail()
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
    found.client("s3").create_bucket(Bucket=found.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return found


@dataclass(frozen=True)
class Pair:
    """Files of a key pair."""

    private: Path
    public: Path


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Make a key pair."""
    return make_pair(tmp_path / "store.key")


def make_pair(path: Path) -> Pair:
    signing.generate(path)
    return Pair(path, path.with_name(f"{path.name}.pub"))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Collect the store's own pauses between attempts instead of making them."""
    made: list[float] = []
    monkeypatch.setattr("radserve.store.repeat.time.sleep", made.append)
    return made


def command(*words: str | Path) -> list[str]:
    """Return the line of `radserve store`."""
    return [sys.executable, "-m", "radserve", "store", *map(str, words)]


@dataclass(frozen=True)
class Said:
    """What a command said."""

    stdout: str
    stderr: str


def run(*words: str | Path, code: int = 0) -> Said:
    """Run `radserve store` in this process, and hold its exit code against `code`."""
    out, err = io.StringIO(), io.StringIO()
    line = ["radserve", "store", *map(str, words)]
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", line),
        patch.dict(os.environ, {"COLUMNS": "200", "TERM": "dumb"}),
    ):
        try:
            main()
        except SystemExit as error:
            found = error.code or 0
        else:
            found = 0
    assert found == code, out.getvalue() + err.getvalue()
    return Said(out.getvalue(), err.getvalue())
