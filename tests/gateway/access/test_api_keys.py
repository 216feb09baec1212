"""Authentication by API keys."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.access import Caller
from gateway.access.api_keys import ApiKeyAuthenticator
from gateway.errors import NotAuthenticatedError
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.auth.keyring import File, Keyring
from radserve.errors import KeysError
from tests.gateway.application import client, gateway


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def identify(keys: ApiKeyAuthenticator, **headers: str) -> Caller:
    return asyncio.run(keys.identify({name.replace("_", "-"): value for name, value in headers.items()}))


def test_key_in_either_header_identifies_caller(file: Path) -> None:
    text = key_file.create(file, "ward-7", [Role.PREDICT])
    keys = ApiKeyAuthenticator.open(str(file))
    wanted = Caller("ward-7", frozenset({Role.PREDICT}))
    assert identify(keys, authorization=f"Bearer {text}") == wanted
    assert identify(keys, x_api_key=text) == wanted


@pytest.mark.parametrize("sent", [{}, {"authorization": "Basic eDp5"}, {"x_api_key": "radserve_x"}, {"x_api_key": "é"}])
def test_invalid_credential_is_rejected_without_repeating_it(file: Path, sent: dict[str, str]) -> None:
    key_file.create(file, "ward-7", [Role.PREDICT])
    with pytest.raises(NotAuthenticatedError) as caught:
        identify(ApiKeyAuthenticator.open(str(file)), **sent)
    assert not any(value in str(caught.value) for value in sent.values())


def test_expired_key_is_rejected(file: Path) -> None:
    text = key_file.create(file, "old", [Role.PREDICT], datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(NotAuthenticatedError, match="expired"):
        identify(ApiKeyAuthenticator.open(str(file)), x_api_key=text)


def test_revoked_key_is_rejected_after_idle_period(file: Path) -> None:
    key_file.create(file, "stays", [Role.PREDICT])
    text = key_file.create(file, "goes", [Role.PREDICT])
    keys = ApiKeyAuthenticator(Keyring(File(file)), period=0.0)
    assert identify(keys, x_api_key=text).name == "goes"
    key_file.revoke(file, "goes")
    with pytest.raises(NotAuthenticatedError):
        identify(keys, x_api_key=text)


def test_slow_key_source_does_not_delay_requests(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = key_file.create(file, "ward-7", [Role.PREDICT])
    ring = Keyring(File(file))
    release = asyncio.Event()
    monkeypatch.setattr("gateway.access.api_keys._REFRESH_TIMEOUT", 0.05)

    async def ask() -> None:
        async def hang(_: object) -> None:
            await release.wait()

        monkeypatch.setattr(asyncio, "to_thread", hang)
        assert (await ApiKeyAuthenticator(ring, period=0.0).identify({"x-api-key": text})).name == "ward-7"
        release.set()

    asyncio.run(ask())


def test_source_without_keys_is_an_error(file: Path) -> None:
    file.write_text('{"keys": []}')
    with pytest.raises(KeysError, match="contains no key"):
        ApiKeyAuthenticator.open(str(file))


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
        async with client(gateway(ApiKeyAuthenticator.open(str(file)))) as http:
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
        async with client(gateway(ApiKeyAuthenticator.open(str(file)))) as http:
            for path in ("/api/predictions/NO-MODEL", "/api/results?limit=x"):
                response = await http.request("POST" if "predictions" in path else "GET", path)
                assert response.status_code == 401

    asyncio.run(ask())
