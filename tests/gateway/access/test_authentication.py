"""Authentication by API keys and tokens, and addresses that require it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.access import Authenticator, Caller, authentication
from gateway.access.authentication import CredentialAuthenticator
from gateway.access.local import LocalAuthenticator
from gateway.access.tokens import TokenVerifier
from gateway.errors import NotAuthenticatedError, SettingsError
from gateway.settings import Settings
from radserve.auth import key_file, key_sources
from radserve.auth.api_keys import Role
from radserve.auth.key_check import Keyring
from radserve.errors import KeysError
from tests.gateway.application import client, gateway

ISSUER = {"oidc_issuer": "https://issuer.example", "oidc_audience": "radserve"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def always_due(file: Path) -> Keyring:
    """Return a keyring that reads its file again for every request."""
    return Keyring(replace(key_sources.source(str(file)), period=0.0))


def identify(keys: Authenticator, **headers: str) -> Caller:
    return asyncio.run(keys.identify({name.replace("_", "-"): value for name, value in headers.items()}))


def test_key_in_either_header_identifies_caller(file: Path) -> None:
    text = key_file.create(file, "ward-7", [Role.PREDICT])
    keys = authentication.create(Settings.read(keys=str(file)))
    wanted = Caller("ward-7", frozenset({Role.PREDICT}))
    assert identify(keys, authorization=f"Bearer {text}") == wanted
    assert identify(keys, x_api_key=text) == wanted


@pytest.mark.parametrize("sent", [{}, {"authorization": "Basic eDp5"}, {"x_api_key": "radserve_x"}, {"x_api_key": "é"}])
def test_invalid_credential_is_rejected_without_repeating_it(file: Path, sent: dict[str, str]) -> None:
    key_file.create(file, "ward-7", [Role.PREDICT])
    with pytest.raises(NotAuthenticatedError) as caught:
        identify(authentication.create(Settings.read(keys=str(file))), **sent)
    assert not any(value in str(caught.value) for value in sent.values())


def test_expired_key_is_rejected(file: Path) -> None:
    text = key_file.create(file, "old", [Role.PREDICT], datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(NotAuthenticatedError, match="expired"):
        identify(authentication.create(Settings.read(keys=str(file))), x_api_key=text)


def test_revoked_key_is_rejected_after_idle_period(file: Path) -> None:
    key_file.create(file, "stays", [Role.PREDICT])
    text = key_file.create(file, "goes", [Role.PREDICT])
    keys = CredentialAuthenticator(always_due(file))
    assert identify(keys, x_api_key=text).name == "goes"
    key_file.revoke(file, "goes")
    with pytest.raises(NotAuthenticatedError):
        identify(keys, x_api_key=text)


def test_slow_key_source_does_not_delay_requests(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = key_file.create(file, "ward-7", [Role.PREDICT])
    keys = CredentialAuthenticator(always_due(file))
    release = asyncio.Event()
    monkeypatch.setattr("radserve.auth.key_check._REFRESH_TIMEOUT", 0.05)

    async def ask() -> None:
        async def hang(_: object) -> None:
            await release.wait()

        monkeypatch.setattr(asyncio, "to_thread", hang)
        assert (await keys.identify({"x-api-key": text})).name == "ward-7"
        release.set()

    asyncio.run(ask())


def test_source_without_keys_is_an_error(file: Path) -> None:
    file.write_text('{"keys": []}')
    with pytest.raises(KeysError, match="contains no key"):
        authentication.create(Settings.read(keys=str(file)))


@pytest.mark.parametrize(
    ("roles", "path", "status"),
    [
        ([Role.PREDICT], "/api/models", 200),
        ([Role.READ], "/api/models", 403),
        ([Role.PREDICT], "/metrics", 403),
        ([Role.READ], "/metrics", 200),
    ],
)
def test_missing_role_returns_403(file: Path, roles: list[Role], path: str, status: int) -> None:
    text = key_file.create(file, "some", roles)

    async def ask() -> None:
        async with client(gateway(authentication.create(Settings.read(keys=str(file))))) as http:
            response = await http.get(path, headers={"X-API-Key": text})
            assert response.status_code == status
            anonymous = await http.get(path)
            assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, "Bearer")
            assert anonymous.headers["content-type"] == "application/problem+json"
            for free in ("/live", "/ready", "/", "/api/openapi.json"):
                assert (await http.get(free)).status_code == 200

    asyncio.run(ask())


def test_authentication_precedes_validation(file: Path) -> None:
    key_file.create(file, "some", [Role.PREDICT])

    async def ask() -> None:
        async with client(gateway(authentication.create(Settings.read(keys=str(file))))) as http:
            for path in ("/api/predictions/NO-MODEL", "/api/results?limit=x"):
                response = await http.request("POST" if "predictions" in path else "GET", path)
                assert response.status_code == 401

    asyncio.run(ask())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "gateway.example"])
def test_public_address_requires_keys(host: str) -> None:
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_KEYS"):
        authentication.require_safe(Settings.read(), host)
    authentication.require_safe(Settings.read(keys="keys.json"), host)
    authentication.require_safe(Settings.read(**ISSUER), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    authentication.require_safe(Settings.read(), host)


def test_missing_authentication_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(authentication.create(Settings.read()), LocalAuthenticator)
    assert ["authentication is off" in record.message for record in caplog.records] == [True]


def test_settings_select_credentials(file: Path) -> None:
    key_file.create(file, "ward-7", [Role.PREDICT])
    for settings, missing in (
        ({"keys": str(file)}, "Missing API key."),
        (ISSUER, "Missing token."),
        ({"keys": str(file)} | ISSUER, "Missing API key or token."),
    ):
        with pytest.raises(NotAuthenticatedError, match=missing):
            identify(authentication.create(Settings.read(**settings)))


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
        authentication.create(Settings.read(**half))


class Subject(TokenVerifier):
    """Accepts every token; the token is the subject."""

    def __init__(self) -> None:
        pass

    async def verify(self, token: str) -> Caller:
        return Caller(token, frozenset({Role.PREDICT}))


def test_credential_prefix_separates_keys_and_tokens(file: Path) -> None:
    text = key_file.create(file, "ward-7", [Role.PREDICT, Role.READ])
    both = CredentialAuthenticator(Keyring.open(str(file)), Subject())
    assert identify(both, authorization=f"Bearer {text}").roles == {Role.PREDICT, Role.READ}
    assert identify(both, authorization="Bearer dr-who").name == "dr-who"
    with pytest.raises(NotAuthenticatedError, match="key is unknown"):
        identify(both, authorization="Bearer radserve_unknown")
    with pytest.raises(NotAuthenticatedError, match="has the same name as its subject"):
        identify(both, authorization="Bearer ward-7")
    with pytest.raises(NotAuthenticatedError, match="API key or token"):
        identify(both)
