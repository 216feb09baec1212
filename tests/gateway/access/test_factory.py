"""Selection of the authenticator, and addresses that require one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.access import Caller, factory
from gateway.access.api_keys import ApiKeyAuthenticator
from gateway.access.factory import KeyOrTokenAuthenticator
from gateway.access.local import LocalAuthenticator
from gateway.access.tokens import TokenAuthenticator
from gateway.errors import NotAuthenticatedError, SettingsError
from gateway.settings import Settings
from radserve.auth import key_file
from radserve.auth.api_keys import Role

ISSUER = {"oidc_issuer": "https://issuer.example", "oidc_audience": "radserve"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "gateway.example"])
def test_public_address_requires_keys(host: str) -> None:
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_KEYS"):
        factory.require_safe(Settings.read(), host)
    factory.require_safe(Settings.read(keys="keys.json"), host)
    factory.require_safe(Settings.read(**ISSUER), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    factory.require_safe(Settings.read(), host)


def test_missing_authentication_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(factory.create(Settings.read()), LocalAuthenticator)
    assert ["authentication is off" in record.message for record in caplog.records] == [True]


def test_settings_select_authenticator(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key_file.create(file, "ward-7", [Role.PREDICT])
    assert isinstance(factory.create(Settings.read(keys=str(file))), ApiKeyAuthenticator)
    assert isinstance(factory.create(Settings.read(**ISSUER)), TokenAuthenticator)
    assert isinstance(factory.create(Settings.read(keys=str(file), **ISSUER)), KeyOrTokenAuthenticator)


@pytest.mark.parametrize(
    "half",
    [
        {"oidc_issuer": "https://issuer.example"},
        {"oidc_audience": "radserve"},
        {"oidc_issuer": "http://issuer.example", "oidc_audience": "radserve"},
        {"oidc_issuer": "issuer", "oidc_audience": "radserve"},
    ],
)
def test_incomplete_or_insecure_issuer_is_a_settings_error(half: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_OIDC_ISSUER"):
        factory.create(Settings.read(**half))


class Subject(TokenAuthenticator):
    """Accepts every token; the token is the subject."""

    def __init__(self) -> None:
        pass

    async def identify(self, headers: object) -> Caller:
        return Caller(headers["authorization"].removeprefix("Bearer "), frozenset({Role.PREDICT}))  # type: ignore[index]


def test_credential_prefix_separates_keys_and_tokens(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    text = key_file.create(file, "ward-7", [Role.PREDICT, Role.READ])
    both = KeyOrTokenAuthenticator(ApiKeyAuthenticator.open(str(file)), Subject())

    def identify(sent: str) -> Caller:
        return asyncio.run(both.identify({"authorization": f"Bearer {sent}"}))

    assert identify(text).roles == {Role.PREDICT, Role.READ}
    assert identify("dr-who").name == "dr-who"
    with pytest.raises(NotAuthenticatedError, match="key is unknown"):
        identify("radserve_unknown")
    with pytest.raises(NotAuthenticatedError, match="has the same name as its subject"):
        identify("ward-7")
    with pytest.raises(NotAuthenticatedError, match="API key or token"):
        asyncio.run(both.identify({}))
