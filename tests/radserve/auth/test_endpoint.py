"""Tests of radserve.auth.endpoint."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from radserve.auth import endpoint, key_file
from radserve.auth.api_keys import Role
from radserve.auth.key_check import Keyring

UNKNOWN = "radserve_" + "0" * 12 + "_" + "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def ask(keyring: Keyring | None, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    transport = httpx.ASGITransport(Starlette(routes=[endpoint.route(keyring)]))

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://supervisor") as client:
            return await client.get("/auth", headers=headers)

    response = asyncio.run(get())
    return response.status_code, dict(response.headers)


def test_a_key_with_the_role_is_accepted_and_identified(file: Path) -> None:
    text = key_file.create(file, "ward", [Role.PREDICT, Role.READ])
    ring = Keyring.open(str(file))
    for headers in (
        {"Authorization": f"Bearer {text}"},
        {"authorization": f"bearer  {text} "},
        {"X-API-Key": text},
        {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": text},
    ):
        for role in ("predict", "read"):
            status, response_headers = ask(ring, headers | {"X-Role-Wanted": role})
            assert status == 204
            assert (response_headers["x-key-id"], response_headers["x-key-name"]) == (text.split("_")[1], "ward")


@pytest.mark.parametrize("role", ["manage", "PREDICT", "predict,manage", "", None])
def test_a_key_without_the_role_is_forbidden(file: Path, role: str | None) -> None:
    text = key_file.create(file, "ward", [Role.PREDICT])
    headers = {"X-API-Key": text} | ({} if role is None else {"X-Role-Wanted": role})
    status, response_headers = ask(Keyring.open(str(file)), headers)
    assert status == 403
    assert response_headers["x-key-name"] == "ward"


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": UNKNOWN}, {"Authorization": f"Bearer {UNKNOWN}"}, {"Authorization": "Bearer"}]
)
def test_a_missing_or_unknown_key_is_unauthenticated(file: Path, headers: dict[str, str]) -> None:
    key_file.create(file, "ward", list(Role))
    status, response_headers = ask(Keyring.open(str(file)), headers | {"X-Role-Wanted": "predict"})
    assert status == 401
    assert response_headers["www-authenticate"] == "Bearer"
    assert "x-key-id" not in response_headers


def test_an_expired_or_revoked_key_is_unauthenticated(file: Path) -> None:
    expired = key_file.create(file, "expired", list(Role), datetime(2020, 1, 1, tzinfo=UTC))
    revoked = key_file.create(file, "revoked", list(Role))
    ring = Keyring.open(str(file))
    assert ask(ring, {"X-API-Key": expired, "X-Role-Wanted": "read"})[0] == 401
    assert ask(ring, {"X-API-Key": revoked, "X-Role-Wanted": "read"})[0] == 204
    key_file.revoke(file, "revoked")
    ring.refresh()
    assert ask(ring, {"X-API-Key": revoked, "X-Role-Wanted": "read"})[0] == 401


def test_every_key_is_rejected_without_a_keyring() -> None:
    assert ask(None, {"X-API-Key": UNKNOWN, "X-Role-Wanted": "predict"})[0] == 401
