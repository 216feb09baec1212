"""HTTP API of a real TorchServe."""

import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http_client:
        yield http_client


def test_a_prediction_names_its_archive(client: httpx.Client, server: Server) -> None:
    answer = client.post(f"/predictions/{NAME}", content=FILM).json()
    (entry,) = json.loads((server.store / "index.json").read_bytes())["archives"]
    assert answer["model"] == {key: entry[key] for key in ("name", "version", "sha256")}


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("text/html, application/json;q=0.5", 200),
        ("text/html", 406),
        ("application/json;q=0", 406),
    ],
)
def test_accept_is_honoured(client: httpx.Client, accept: str, status: int) -> None:
    assert client.post(f"/predictions/{NAME}", content=FILM, headers={"Accept": accept}).status_code == status


def test_client_headers_cannot_change_the_kind_of_a_request(client: httpx.Client) -> None:
    for name in ("explain", "Explain", "EXPLAIN", "describe", "Describe"):
        response = client.post(f"/predictions/{NAME}", content=FILM, headers={name: "True"})
        assert response.status_code == 200, name
        assert "label" in response.json()


def test_non_ascii_headers_do_not_kill_a_worker(server: Server) -> None:
    where = urlsplit(server.url)
    workers = {worker.pid for worker in server.workers()}
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        head = f"POST /predictions/{NAME} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(FILM)}\r\n"
        connection.sendall(head.encode() + b"X-Name: \xff\xfe\xe9\r\n\r\n" + FILM)
        assert b" 200 " in connection.recv(65536).splitlines()[0]
    assert {worker.pid for worker in server.workers()} == workers


def test_a_body_above_the_limit_is_413_and_the_next_request_succeeds(client: httpx.Client) -> None:
    headers = {"Expect": "100-continue", "Content-Length": "46000000"}
    # nginx answers from the announced length, before the body comes.
    where = client.base_url
    with socket.create_connection((where.host, where.port or 80), timeout=20) as connection:
        lines = [
            f"POST /predictions/{NAME} HTTP/1.1",
            "Host: localhost",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b" 413 " in connection.recv(65536).splitlines()[0]
    assert client.post(f"/predictions/{NAME}", content=FILM).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models?url=http://127.0.0.1:9/evil.mar"),
        ("GET", "/models"),
        ("DELETE", f"/models/{NAME}"),
        ("PUT", f"/models/{NAME}?min_worker=0"),
        ("PUT", f"/models/{NAME}/1.0.0/set-default"),
        ("POST", "/workflows?url=http://127.0.0.1:9/evil.war"),
        ("GET", "/workflows"),
        ("GET", "/token?type=management"),
        ("POST", f"/v1/models/{NAME}:predict"),
        ("OPTIONS", "/"),
    ],
)
def test_management_is_closed_on_the_inference_port(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code in (404, 405)
    assert client.post(f"/predictions/{NAME}", content=FILM).status_code == 200


def test_the_management_socket_is_private_and_loads_no_url(server: Server) -> None:
    path = server.management_socket()
    transport = httpx.HTTPTransport(uds=path)
    with httpx.Client(transport=transport, base_url="http://torchserve", timeout=20) as management:
        assert management.get("/models").status_code == 200
        for url in ("http://127.0.0.1:9/evil.mar", "file:///etc/passwd", "https://example.com/evil.mar"):
            assert management.post("/models", params={"url": url}).status_code >= 400
            assert management.post("/workflows", params={"url": url}).status_code >= 400
        assert len(management.get("/models").json()["models"]) == 1
    assert stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700
