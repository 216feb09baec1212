"""The gateway behind nginx: its page and API are published, it says itself to whom, and nothing else is opened."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.app import create
from gateway.settings import Settings
from gateway.static_files import FOLDER
from radserve.client import Client
from tests.authority import Authority
from tests.conftest import ROOT
from tests.e2e.test_front_closed import CLOSED
from tests.front import Front, Keys, answered, fronted, problem
from tests.gateways import Gateway, gateway
from tests.repack import NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

FILM = (ROOT / "archives" / NAME / "sample.png").read_bytes()
PATH = f"/api/predictions/{NAME}"


@pytest.fixture(scope="module")
def behind(server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with gateway(server, folder, keys=keys.file, max_bytes=20_000_000) as started:
        yield started


@pytest.fixture(scope="module")
def front(
    server: Server, behind: Gateway, keys: Keys, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front-gateway")
    tls = (authority, authority.issue("front-gateway"))
    options = ("--gateway", behind.url.removeprefix("http://"))
    with fronted(server, folder / "runtime", keys, folder, tls, *options) as started:
        yield started


@pytest.fixture
def client(front: Front) -> Iterator[httpx.Client]:
    with front.client() as made:
        yield made


def test_a_prediction_goes_through_both(front: Front, client: httpx.Client) -> None:
    answer = client.post(PATH, content=FILM, headers={"X-Request-Id": "ward-7.42"})
    assert (answer.status_code, answer.json()["label"]) == (200, "pneumonia")
    assert answer.json()["id"]
    assert answer.headers["x-request-id"] == "ward-7.42"
    line = front.line(answer)
    assert (line["path"], line["status"], line["key_name"]) == (PATH, 200, "")
    with io.BytesIO(FILM) as file:
        form = client.post(PATH, files={"file": ("film.png", file, "image/png")})
    assert (form.status_code, form.json()["filename"]) == (200, "film.png")


def test_our_client_asks_it_there(front: Front, keys: Keys) -> None:
    with Client(front.url, key=keys.texts["predict"], cacert=front.ca, api="gateway") as client:
        assert client.predict(NAME, FILM).id


def test_no_header_is_said_twice(client: httpx.Client) -> None:
    answers = [client.get("/"), client.post(PATH, content=FILM), client.post(PATH), client.post("/api/models")]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 405]
    for answer in answers:
        names = [name.lower() for name, _ in answer.headers.multi_items()]
        assert len(names) == len(set(names)), names
        for name in ("content-security-policy", "strict-transport-security", "x-content-type-options"):
            assert name in names, answer.url
    assert "POST" not in answers[-1].headers["allow"]


def test_the_page_is_open_to_all_and_every_file_of_it(front: Front) -> None:
    with front.client(None) as nobody:
        assert nobody.get("/").headers["content-type"].startswith("text/html")
        for path in FOLDER.rglob("*"):
            if path.is_file():
                url = f"/{path.relative_to(FOLDER)}"
                assert nobody.get(url).status_code == 200, url
                problem(nobody.post(url), 405)


def test_every_path_of_the_api_reaches_the_gateway(client: httpx.Client) -> None:
    asked = 0
    for path, methods in create(Settings.read(history="none")).openapi()["paths"].items():
        for method in methods:
            if path.startswith("/api/"):
                found = client.request(method, path.format(name="x", version="1.0", identity="0"))
                assert "Nothing is open" not in found.text, path  # nginx' own words
                assert "This path takes" not in found.text, (method, path)
                asked += 1
    assert asked >= 9
    assert client.get("/api/models").json()["models"][0]["name"] == NAME


def test_health_and_metrics_stay_where_they_were(front: Front, client: httpx.Client) -> None:
    assert client.get("/live").json()["state"] == "ready"  # the supervisor's
    problem(client.get("/metrics"), 404)
    for role, status in (("read", 200), ("predict", 403), (None, 401)):
        with front.client(role, front.metrics_url) as reader:
            found = reader.get("/metrics/gateway")
        assert found.status_code == status
        assert ("radserve_gateway_requests_total" in found.text) is (status == 200)
    with front.client("read", front.metrics_url) as reader:
        problem(reader.get("/api/models"), 404)
        problem(reader.get("/"), 404)


OPENED = {"/"}
MORE = [
    "/api",
    "/api/",
    "/api/../models",
    "/api/%2e%2e/models",
    "/api//models",
    "/api/.git/config",
    "/.env",
    "/x/../index.html",
]


@pytest.mark.parametrize("path", sorted(set(CLOSED + MORE) - OPENED))
def test_nothing_else_is_opened_by_it(front: Front, path: str) -> None:
    for method in ("GET", "POST"):
        with front.connect() as connection:  # httpx would make another path of some
            line = f"{method} {path.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            head = f"X-API-Key: {front.keys.texts['predict']}\r\nContent-Length: 0\r\n\r\n"
            connection.sendall((line + head).encode())
            status, document = answered(connection)
        assert status == 404 or (status == 400 and "%00" in path), (method, status)
        assert "Nothing is open at this path" in str(document["detail"]) or status == 400


def test_bodies_are_bounded_by_both(client: httpx.Client) -> None:
    assert "20000000 bytes" in client.post(PATH, content=bytes(20_000_001)).json()["detail"]
    assert "longer than" in problem(client.post(PATH, content=bytes(46_000_000)), 413)


def test_a_socket_will_do_and_a_gateway_that_is_gone_is_said(
    server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("gone")
    options = ("--gateway", f"unix:{folder / 'gateway.sock'}")
    with fronted(server, folder / "runtime", keys, folder, None, *options) as front, front.client() as client:
        problem(client.post(PATH, content=FILM), 502)
        for _ in range(2):  # it comes and goes, and nginx stays
            with gateway(server, folder, keys=keys.file, socket=folder / "gateway.sock"):
                assert client.post(PATH, content=FILM).json()["label"] == "pneumonia"
        problem(client.post(PATH, content=FILM), 502)


def test_over_a_socket_it_knows_of_clients_what_its_proxy_says(server: Server, keys: Keys, tmp_path: Path) -> None:
    place = tmp_path / "gateway.sock"

    def ask(address: str) -> httpx.Response:
        headers = {"X-Forwarded-For": address, "X-Forwarded-Proto": "https", "X-API-Key": "radserve_wrong"}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(place)), base_url="http://radserve") as client:
            return client.get("/api/models", headers=headers)

    with gateway(server, tmp_path, keys=keys.file, socket=place, failures=1):
        answers = [ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")]
    assert [answer.status_code for answer in answers] == [401, 429, 401]
    assert "strict-transport-security" in answers[0].headers


def test_one_without_keys_answers_nobody_from_outside(server: Server, keys: Keys, tmp_path: Path) -> None:
    with (
        gateway(server, tmp_path) as behind,
        fronted(
            server, tmp_path / "runtime", keys, tmp_path, None, "--gateway", behind.url.removeprefix("http://")
        ) as front,
        front.client() as client,
    ):
        for host in ("radserve.example.org", "127.0.0.1", "localhost"):
            assert client.post(PATH, content=FILM, headers={"Host": host}).status_code == 403
        assert httpx.post(behind.url + PATH, content=FILM, timeout=60).status_code == 200
