"""Credentials of roles: session tokens, containers, web identities and profiles, with the documented permissions only.

moto checks every signature, session token and policy here.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import httpx
import pytest

from radserve.errors import StoreError
from radserve.store import object_storage, open_store
from tests.authority import Authority
from tests.radserve.scripted import document, scripted
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import REGION, Aws

READ = ["s3:GetObject", "s3:ListBucket"]
PUSH = [*READ, "s3:PutObject", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts"]


@pytest.fixture
def strict(aws: Aws) -> Iterator[Aws]:
    """AWS that checks permissions after `role` or `session` was called, until the end of the test."""
    yield aws
    aws.enforce_permissions_after("inf")


def role(aws: Aws, actions: list[str]) -> str:
    """Create a role with these permissions on the bucket and return its ARN."""
    iam = aws.client("iam")
    name = f"role-{aws.bucket}-{len(actions)}"
    bucket = f"arn:aws:s3:::{aws.bucket}"
    permissions = {"Effect": "Allow", "Action": actions, "Resource": [bucket, f"{bucket}/*"]}
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"],
    }
    created = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="store", PolicyDocument=policy(permissions))
    return str(created["Arn"])


def policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def session(aws: Aws, actions: list[str]) -> dict[str, str]:
    """Assume a role, and check permissions from now on."""
    arn = role(aws, actions)
    credentials = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    aws.enforce_permissions_after("0")
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


def remove_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


def test_the_documented_permissions_suffice(strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "PART_SIZE", 100_000)
    for name, value in session(strict, PUSH).items():
        monkeypatch.setenv(name, value)
    for version, size in (("1.0.0", 1000), ("1.1.0", 250_000)):
        open_store(strict.store).push(make(tmp_path / "here", "chest", version, size=size), tmp_path / "here")
        open_store(strict.store).pull("chest", version, tmp_path / "there")


def test_invalid_credentials_are_reported_without_retries(strict: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in session(strict, READ).items():
        monkeypatch.setenv(name, value)
    assert open_store(strict.store).entries() == ()
    strict.fail()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="wrong secret access key"):
        open_store(strict.store).entries()
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(StoreError, match="unknown access key or session token"):
        open_store(strict.store).entries()
    assert len(strict.requests()) == 2


def test_a_reader_pulls_but_cannot_push(strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    for name, value in session(strict, READ).items():
        monkeypatch.setenv(name, value)
    open_store(strict.store).pull("chest", None, tmp_path / "there")
    with pytest.raises(StoreError, match=r"access denied.*s3:PutObject"):
        open_store(strict.store).push(make(tmp_path / "here", version="2.0.0"), tmp_path / "here")


@pytest.mark.parametrize("token_file", [False, True])
def test_the_role_of_a_container_is_used(
    strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, token_file: bool
) -> None:
    """ECS and EKS hand out credentials at an address on loopback, EKS in exchange for a token."""
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    credentials = session(strict, READ)
    remove_keys(monkeypatch)
    if token_file:
        (tmp_path / "token").write_text("a.b.c")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    with scripted() as endpoint:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        response = {
            "AccessKeyId": credentials["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": credentials["AWS_SECRET_ACCESS_KEY"],
            "Token": credentials["AWS_SESSION_TOKEN"],
            "Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }
        endpoint.say(document(response))
        open_store(strict.store).pull("chest", None, tmp_path / "there")
        assert [item.path for item in endpoint.requests] == ["/role"]


@pytest.mark.parametrize("tls", [False, True])
def test_a_web_identity_is_exchanged_for_a_role(
    strict: Aws, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, *, tls: bool
) -> None:
    """Service accounts of Kubernetes have a token file."""
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    (tmp_path / "token").write_text("a.b.c")
    monkeypatch.setenv("AWS_ROLE_ARN", role(strict, READ))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    remove_keys(monkeypatch)
    with tls_proxy(strict, authority) as url:
        if tls:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        strict.enforce_permissions_after("1")  # the exchange itself needs no credentials
        open_store(strict.store).pull("chest", None, tmp_path / "there")


@contextmanager
def tls_proxy(aws: Aws, authority: Authority) -> Iterator[str]:
    """Forward requests to STS."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = self.rfile.read(int(self.headers["Content-Length"]))
            response = httpx.post(aws.url, content=body, headers=headers)
            self.send_response(response.status_code)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_: object) -> None:
            pass

    certificate = authority.issue("sts")
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_profile_names_credentials_region_and_endpoint(
    strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    credentials = session(strict, READ)
    remove_keys(monkeypatch)
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(
        f"[profile reader]\nregion = {REGION}\nendpoint_url = {strict.url}\n"
        f"aws_access_key_id = {credentials['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {credentials['AWS_SECRET_ACCESS_KEY']}\n"
        f"aws_session_token = {credentials['AWS_SESSION_TOKEN']}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(StoreError, match="no AWS credentials found"):
        open_store(strict.store).entries()
    monkeypatch.setenv("AWS_PROFILE", "reader")
    open_store(strict.store).pull("chest", None, tmp_path / "there")
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(StoreError, match="missing"):
        open_store(strict.store).entries()
