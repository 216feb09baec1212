"""Tests of radserve.auth.key_check and radserve.auth.key_sources."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from radserve.auth import key_file, key_sources
from radserve.auth.api_keys import Role
from radserve.auth.key_check import Keyring
from radserve.errors import KeysError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield


def test_source_parses_the_option(tmp_path: Path) -> None:
    for text, name, period in (
        (str(tmp_path), str(tmp_path), 1.0),
        ("env:RADSERVE_KEYS", "variable RADSERVE_KEYS", None),
        ("secretsmanager:radserve/keys", "secret radserve/keys", 300.0),
    ):
        source = key_sources.source(text)
        assert (source.name, source.period) == (name, period)
    for invalid in ("", "env:", "secretsmanager:", "ssm:"):
        with pytest.raises(KeysError, match="env:NAME, secretsmanager:NAME or ssm:NAME"):
            key_sources.source(invalid)


def test_a_missing_or_invalid_source_is_an_error_at_start(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeysError, match="radserve keys create NAME"):
        Keyring.open(str(file))
    monkeypatch.delenv("NO_KEYS", raising=False)
    with pytest.raises(KeysError, match="env:NO_KEYS"):
        Keyring.open("env:NO_KEYS")
    monkeypatch.setenv("NO_KEYS", "hunter2")
    with pytest.raises(KeysError, match="variable NO_KEYS: ") as error:
        Keyring.open("env:NO_KEYS")
    assert "hunter2" not in str(error.value)
    monkeypatch.setenv("NO_KEYS", '{"keys": []}')
    with pytest.raises(KeysError, match="contains no key"):
        Keyring.open("env:NO_KEYS")


def test_a_variable_can_hold_the_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = key_file.create(file, "ward", [Role.PREDICT])
    monkeypatch.setenv("SOME_KEYS", file.read_text())
    assert Keyring.open("env:SOME_KEYS").find(text)


def test_watch_reloads_a_changed_file(file: Path) -> None:
    first = key_file.create(file, "first", [Role.PREDICT])
    ring = Keyring.open(str(file))

    async def change() -> str:
        watch = asyncio.create_task(ring.watch())
        second = key_file.create(file, "second", [Role.PREDICT])
        key_file.revoke(file, "first")
        await asyncio.sleep(1.5)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        return second

    second = asyncio.run(change())
    assert ring.find(second)
    assert ring.find(first) is None


def test_a_later_problem_is_logged_once_and_the_last_valid_keys_remain(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = key_file.create(file, "ward", [Role.PREDICT])
    good, ring = file.read_bytes(), Keyring.open(str(file))
    for damage in (lambda: file.write_bytes(b"{"), lambda: file.chmod(0o666), file.unlink):
        caplog.clear()
        damage()
        for _ in range(3):
            ring.refresh()
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "keys not reloaded, the last 1 remain in use" in errors[0].message
        assert ring.find(text)
    file.write_bytes(good)
    file.chmod(0o600)
    ring.refresh()
    assert "readable again" in caplog.text
    key_file.revoke(file, "ward")
    ring.refresh()
    assert ring.find(text) is None


def test_only_expired_keys_cause_a_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key_file.create(file, "late", [Role.PREDICT], datetime(2020, 1, 1, tzinfo=UTC))
    Keyring.open(str(file))
    assert "all keys have expired" in caplog.text


@pytest.mark.usefixtures("aws")
def test_a_secret_is_read_by_name_with_region_or_by_arn(file: Path) -> None:
    first = key_file.create(file, "first", [Role.PREDICT])
    client = boto3.client("secretsmanager", region_name="eu-west-1")
    arn = client.create_secret(Name="radserve/keys", SecretString=file.read_text())["ARN"]
    by_region, by_arn = (Keyring.open(f"secretsmanager:{name}") for name in ("radserve/keys:eu-west-1", arn))
    assert by_region.find(first)
    assert by_arn.find(first)
    key_file.revoke(file, "first")
    second = key_file.create(file, "second", [Role.PREDICT])
    client.put_secret_value(SecretId="radserve/keys", SecretBinary=file.read_bytes())
    by_arn.refresh()
    assert by_arn.find(second)
    assert by_arn.find(first) is None
    with pytest.raises(KeysError, match="secret radserve/keys: cannot be read from Secrets Manager"):
        Keyring.open("secretsmanager:radserve/keys")  # the default chain names another region


@pytest.mark.usefixtures("aws")
def test_a_deleted_secret_keeps_the_last_keys(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = key_file.create(file, "ward", [Role.PREDICT])
    client = boto3.client("secretsmanager")
    client.create_secret(Name="gone", SecretString=file.read_text())
    ring = Keyring.open("secretsmanager:gone")
    client.delete_secret(SecretId="gone", ForceDeleteWithoutRecovery=True)
    ring.refresh()
    assert "keys not reloaded, the last 1 remain in use: secret gone" in caplog.text
    assert ring.find(text)


@pytest.mark.usefixtures("aws")
def test_keys_are_read_from_parameter_store(file: Path) -> None:
    first = key_file.create(file, "first", [Role.PREDICT])
    client = boto3.client("ssm", region_name="eu-west-1")
    client.put_parameter(Name="/radserve/keys", Value=file.read_text(), Type="SecureString")
    ring = Keyring.open("ssm:/radserve/keys:eu-west-1")
    assert ring.find(first)
    key_file.revoke(file, "first")
    client.put_parameter(Name="/radserve/keys", Value=file.read_text(), Type="SecureString", Overwrite=True)
    ring.refresh()
    assert ring.find(first) is None
