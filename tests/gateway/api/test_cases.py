"""Cases of a real endpoint of the PACS loop, through the API."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from gateway.access import Caller
from gateway.errors import SettingsError
from gateway.pacs_loop import PacsLoop
from gateway.settings import Settings
from radserve.auth.api_keys import Role
from tests.gateway.application import client, gateway
from tests.radserve.pacs.cases import FAILURE, filled
from tests.radserve.scripted import Reply, scripted

TOKEN = "a correct token of a loop"


class Having:
    """Identifies every caller as one with a role."""

    def __init__(self, role: Role) -> None:
        self._role = role

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        return Caller("someone", frozenset({self._role}))


def ask(url: str | None, method: str, path: str, role: Role = Role.MANAGE, token: str = TOKEN) -> httpx.Response:
    """Send a request to a gateway with the loop at a URL, or without one."""

    async def send() -> httpx.Response:
        loop = PacsLoop(url or "http://127.0.0.1:1", token)
        async with client(gateway(Having(role), pacs=loop if url else None)) as http:
            response = await http.request(method, path)
        await loop.close()
        return response

    return asyncio.run(send())


def test_managers_list_filter_and_resend_cases(tmp_path: Path) -> None:
    with filled(tmp_path, TOKEN) as endpoint:
        reply = ask(endpoint.url, "GET", "/api/cases?state=dead&limit=1&after=4")
        assert reply.status_code == 200
        assert [(case["id"], case["reason"]) for case in reply.json()["cases"]] == [(3, FAILURE)]
        assert reply.json()["counts"]["dead"] == 1
        assert ask(endpoint.url, "POST", "/api/cases/3/resend").json() == {"resent": 1}
        again = ask(endpoint.url, "POST", "/api/cases/3/resend")
        assert (again.status_code, again.json()["detail"]) == (
            409,
            "Case 3 has not failed, so it cannot be sent again.",
        )
        assert ask(endpoint.url, "POST", "/api/cases/resend").json() == {"resent": 0}


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.MANAGE}))
def test_other_roles_neither_see_nor_resend_cases(tmp_path: Path, role: Role) -> None:
    with filled(tmp_path, TOKEN) as endpoint:
        for method, path in (("GET", "/api/cases"), ("POST", "/api/cases/resend"), ("POST", "/api/cases/3/resend")):
            assert ask(endpoint.url, method, path, role).status_code == 403
        assert endpoint.queue.counts()["dead"] == 1


def test_errors_say_what_is_wrong_with_the_connection_to_the_loop(tmp_path: Path) -> None:
    missing = ask(None, "GET", "/api/cases")
    assert (missing.status_code, "RADSERVE_GATEWAY_PACS=" in missing.json()["detail"]) == (404, True)
    with filled(tmp_path, TOKEN) as endpoint:
        rejected = ask(endpoint.url, "GET", "/api/cases", token="wrong")
        assert (rejected.status_code, "RADSERVE_GATEWAY_PACS_TOKEN" in rejected.json()["detail"]) == (502, True)
    away = ask(endpoint.url, "GET", "/api/cases")
    assert (away.status_code, away.headers["Retry-After"]) == (503, "5")
    assert f"The PACS loop at {endpoint.url} does not respond." in away.json()["detail"]
    with scripted() as other:
        for body in (b"<html>", b"{}", b"[]", b'{"cases": 1}'):
            other.say(Reply(200, body))
            wrong = ask(other.url, "GET", "/api/cases")
            assert (wrong.status_code, "sends no list of cases" in wrong.json()["detail"]) == (502, True)
        other.say(Reply(500, b'{"detail": "It failed."}'))
        assert "returned status 500: It failed." in ask(other.url, "GET", "/api/cases").json()["detail"]


def test_an_empty_setting_is_no_loop_and_an_invalid_one_an_error() -> None:
    assert PacsLoop.from_settings(Settings.read(pacs="")) is None
    with pytest.raises(SettingsError, match=r"^RADSERVE_GATEWAY_PACS: "):
        Settings.read(pacs="127.0.0.1:8095")
    with pytest.raises(SettingsError, match="no user name or password") as caught:
        Settings.read(pacs="http://someone:hidden@127.0.0.1:8095")
    assert "hidden" not in str(caught.value)
