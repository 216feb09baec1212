"""Rate limits of the proxy."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from radserve.auth import key_file
from radserve.auth.api_keys import Role
from tests.proxy import Keys, Proxy, problem, running_proxy
from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"


@pytest.fixture
def narrow(server: Server, runtime: Path, keys: Keys, tmp_path: Path) -> Iterator[Proxy]:
    """Run a plain-HTTP proxy with low limits that trusts X-Forwarded-For."""
    apart = tmp_path / "runtime"  # the shared run directory has a proxy already
    apart.mkdir(mode=0o700)
    for name in ("ready", "inference.sock"):
        (apart / name).symlink_to(runtime / name)
    options = ("--rate", "3", "--concurrent", "2", "--plain-http", "--trusted-proxy", "127.0.0.0/8")
    with running_proxy(server, apart, keys, tmp_path, None, *options) as started:
        yield started


def test_too_many_requests_of_one_key_are_rejected(narrow: Proxy) -> None:
    other = key_file.create(narrow.keys.file, "other", [Role.PREDICT])
    time.sleep(1.5)  # until the server has read the new key
    with narrow.client() as client:
        responses = [client.post(PATH, content=FILM) for _ in range(10)]
        refused = [response for response in responses if response.status_code == 429]
        assert refused
        assert [response.status_code for response in responses[:3]] == [200] * 3
        assert "3 per second" in problem(refused[0], 429)
        assert refused[0].headers["retry-after"] == "1"
        assert client.post(PATH, content=FILM, headers={"Authorization": f"Bearer {other}"}).status_code == 200
    key_file.revoke(narrow.keys.file, "other")


def test_too_many_open_requests_of_one_key_are_rejected(narrow: Proxy) -> None:
    """Two requests wait for their bodies, so the third is rejected."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {narrow.keys.texts['predict']}\r\nContent-Length: 99\r\n\r\n"
    first, second = narrow.connect(), narrow.connect()
    with first, second:
        first.sendall(head.encode())
        second.sendall(head.encode())
        time.sleep(0.3)
        with narrow.client() as client:
            assert "have 2 open" in problem(client.post(PATH, content=FILM), 429)


def test_a_trusted_proxy_sets_the_address_of_the_client(narrow: Proxy) -> None:
    with narrow.client() as client:
        sent = client.post(PATH, content=FILM, headers={"X-Forwarded-For": "203.0.113.9"})
    assert narrow.line(sent)["client"] == "203.0.113.9"
    assert "strict-transport-security" not in sent.headers
