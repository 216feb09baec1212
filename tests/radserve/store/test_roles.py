"""Credentials as roles give them: of a session, found by boto3's own chain, with no right but those that they need.

moto checks every signature, session token and policy here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from radserve.errors import StoreError
from radserve.store import open_store
from tests.radserve.scripted import document, scripted
from tests.radserve.store.archives import make
from tests.radserve.store.conftest import Aws

READ = ["s3:GetObject", "s3:ListBucket"]
PUSH = [*READ, "s3:PutObject", "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts"]


@pytest.fixture
def strict(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """AWS with a published archive, that asks for rights at the end of `role`; no credentials in the environment."""
    yield aws
    aws.ask_for_rights("inf")


def role(aws: Aws, actions: list[str]) -> str:
    """Make a role with these rights on the bucket, and have rights checked from now on."""
    iam = aws.client("iam")
    name = f"role-{aws.bucket}-{len(actions)}"
    bucket = f"arn:aws:s3:::{aws.bucket}"
    rights = {"Effect": "Allow", "Action": actions, "Resource": [bucket, f"{bucket}/*"]}
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"],
    }
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(trust))["Role"]
    iam.put_role_policy(RoleName=name, PolicyName="store", PolicyDocument=policy(rights))
    return str(made["Arn"])


def policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def session(aws: Aws, actions: list[str]) -> dict[str, str]:
    """Assume a role, and have rights checked from now on."""
    arn = role(aws, actions)
    found = aws.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    aws.ask_for_rights("0")
    return {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
    }


def test_a_session_pushes_and_pulls_with_the_rights_that_the_documentation_names(
    strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radserve.store.upload.PART", 100_000)
    for name, value in session(strict, PUSH).items():
        monkeypatch.setenv(name, value)
    for version, size in (("1.0.0", 1000), ("1.1.0", 250_000)):
        open_store(strict.store).push(make(tmp_path / "here", "chest", version, size=size), tmp_path / "here")
        open_store(strict.store).pull("chest", version, tmp_path / "there")


def test_a_session_without_its_token_or_with_a_wrong_secret_is_refused_at_once(
    strict: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in session(strict, READ).items():
        monkeypatch.setenv(name, value)
    assert open_store(strict.store).entries() == ()
    strict.fail()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="the secret access key is wrong"):
        open_store(strict.store).entries()
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with pytest.raises(StoreError, match="the access key, or its session token, is not known"):
        open_store(strict.store).entries()
    assert len(strict.requests()) == 2


def test_who_may_only_read_pulls_and_is_told_that_he_cannot_push(
    strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    for name, value in session(strict, READ).items():
        monkeypatch.setenv(name, value)
    open_store(strict.store).pull("chest", None, tmp_path / "there")
    with pytest.raises(StoreError, match=r"access is denied.*s3:PutObject"):
        open_store(strict.store).push(make(tmp_path / "here", version="2.0.0"), tmp_path / "here")


def test_the_role_of_a_task_is_found(strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ECS and EKS give it: an address on the loopback that hands out credentials."""
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    found = session(strict, READ)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with scripted() as endpoint:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{endpoint.url}/role")
        handed = {
            "AccessKeyId": found["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": found["AWS_SECRET_ACCESS_KEY"],
            "Token": found["AWS_SESSION_TOKEN"],
            "Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }
        endpoint.say(document(handed))
        open_store(strict.store).pull("chest", None, tmp_path / "there")
        assert [item.path for item in endpoint.requests] == ["/role"]


def test_a_role_by_web_identity_is_found(strict: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes' service accounts have it."""
    open_store(strict.store).push(make(tmp_path / "here"), tmp_path / "here")
    token = tmp_path / "token"
    token.write_text("a.b.c")
    monkeypatch.setenv("AWS_ROLE_ARN", role(strict, READ))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    strict.ask_for_rights("1")  # who asks with a token has no credentials yet
    open_store(strict.store).pull("chest", None, tmp_path / "there")
