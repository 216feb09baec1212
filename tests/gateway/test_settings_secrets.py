"""Settings that name a secret, read from moto."""

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from gateway.errors import SettingsError
from gateway.settings import Settings


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield


def test_secrets_are_read_from_both_services() -> None:
    boto3.client("secretsmanager").create_secret(Name="radserve/key", SecretString="radserve_key\n")
    url = "rediss://:password@redis:6379/0"
    boto3.client("ssm", region_name="eu-west-1").put_parameter(Name="/radserve/history", Value=url, Type="SecureString")
    settings = Settings.read(server_key="secretsmanager:radserve/key", history="ssm:/radserve/history:eu-west-1")
    resolved = settings.resolve_secrets()
    assert (resolved.server_key, resolved.history, resolved.rate_storage) == ("radserve_key", url, "memory://")
    assert url not in repr(resolved)


def test_plain_values_remain() -> None:
    settings = Settings.read(history="sqlite:x.sqlite3", rate_storage="redis://:secretsmanager@host", server_key="")
    assert settings.resolve_secrets() == settings


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("ssm:none", "RADSERVE_GATEWAY_SERVER_KEY: parameter none: cannot be read from Parameter Store"),
        ("secretsmanager:none", "RADSERVE_GATEWAY_SERVER_KEY: secret none: cannot be read from Secrets Manager"),
        ("secretsmanager:bytes", "RADSERVE_GATEWAY_SERVER_KEY: the secret is not UTF-8 text"),
        ("secretsmanager:blank", "RADSERVE_GATEWAY_SERVER_KEY: the secret is empty"),
        ("ssm:", "write a path, env:NAME, secretsmanager:NAME or ssm:NAME"),
    ],
)
def test_unusable_secret_error_names_variable(secret: str, message: str) -> None:
    client = boto3.client("secretsmanager")
    client.create_secret(Name="bytes", SecretBinary=b"\xff\xfe")
    client.create_secret(Name="blank", SecretString="  ")
    with pytest.raises(SettingsError) as raised:
        Settings.read(server_key=secret).resolve_secrets()
    assert message in str(raised.value)
