"""Access without authentication."""

import asyncio

import pytest

from gateway.access import ALL_ROLES
from gateway.access.local import LocalAuthenticator, is_loopback
from gateway.errors import NotAllowedError
from tests.gateway.application import client, gateway
from tests.gateway.fake_backend import FakeBackend


def identify(headers: dict[str, str], *origins: str) -> None:
    caller = asyncio.run(LocalAuthenticator(origins).identify(headers))
    assert (caller.name, caller.roles) == ("local", ALL_ROLES)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.0.0.1"])
def test_loopback_names_are_accepted(host: str) -> None:
    identify({"host": host})
    identify({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "10.0.0.1",
        "[::ffff:10.0.0.1]",
        "a@[",
        "127.1",
    ],
)
def test_rebound_host_name_is_rejected(host: str) -> None:
    with pytest.raises(NotAllowedError, match="RADSERVE_GATEWAY_KEYS"):
        identify({"host": host})


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8000", ""]
)
def test_other_origin_is_rejected(origin: str) -> None:
    with pytest.raises(NotAllowedError, match="ORIGINS"):
        identify({"host": "127.0.0.1:8000", "origin": origin})


def test_allowed_origin_is_accepted() -> None:
    identify({"host": "127.0.0.1:8000", "origin": "https://app.example"}, "https://app.example")


def test_rejected_origin_reaches_no_model() -> None:
    backend = FakeBackend()

    async def ask() -> None:
        async with client(gateway(LocalAuthenticator(), backend=backend)) as http:
            for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
                response = await http.post("/api/predictions/a", content=b"x", headers=headers)
                assert response.status_code == 403
            assert (await http.post("/api/predictions/a", content=b"x")).status_code == 200

    asyncio.run(ask())
    assert len(backend.requests) == 1


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("workstation", False),
        ("localhost.localdomain", False),
    ],
)
def test_loopback_hosts_are_recognized(host: str, local: bool) -> None:
    assert is_loopback(host) is local
