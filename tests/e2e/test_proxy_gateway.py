"""Gateway behind the proxy."""

import io
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from gateway.app import create
from gateway.settings import Settings
from gateway.static_files import FOLDER
from tests.authority import Authority
from tests.e2e.test_proxy_closed import CLOSED
from tests.gateways import Gateway, gateway
from tests.proxy import Keys, Proxy, answered, problem, running_proxy
from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATH = f"/api/predictions/{NAME}"


@pytest.fixture(scope="module")
def behind(server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with gateway(server, folder, keys=keys.file, max_bytes=20_000_000) as started:
        yield started


@pytest.fixture(scope="module")
def proxy(
    server: Server, behind: Gateway, keys: Keys, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("front-gateway")
    tls = (authority, authority.issue("front-gateway"))
    options = ("--gateway", behind.url.removeprefix("http://"))
    with running_proxy(server, folder / "runtime", keys, folder, tls, *options) as started:
        yield started


def test_a_prediction_passes_through_proxy_and_gateway(proxy: Proxy, client: httpx.Client) -> None:
    answer = client.post(PATH, content=FILM, headers={"X-Request-Id": "ward-7.42"})
    assert (answer.status_code, answer.json()["label"]) == (200, "pneumonia")
    assert answer.json()["id"]
    assert answer.headers["x-request-id"] == "ward-7.42"
    line = proxy.line(answer)
    assert (line["path"], line["status"], line["key_name"]) == (PATH, 200, "")
    with io.BytesIO(FILM) as file:
        form = client.post(PATH, files={"file": ("film.png", file, "image/png")})
    assert (form.status_code, form.json()["filename"]) == (200, "film.png")


def test_binary_tensors_pass_through_the_proxy(proxy: Proxy, keys: Keys) -> None:
    def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(proxy.ca))

    triton = InferenceServerClient(proxy.url.removeprefix("https://"), ssl=True, ssl_context_factory=context)
    images = InferInput("image", [2], "BYTES")
    images.set_data_from_numpy(np.array([FILM, b"text"], dtype=object))
    result = triton.infer(NAME, [images], headers={"X-API-Key": keys.texts["predict"]})
    assert result.as_numpy("label").tolist() == [b"pneumonia", b""]
    assert result.as_numpy("status")[0] == 200
    assert result.as_numpy("status")[1] in (400, 415, 422)


def test_no_header_is_duplicated(client: httpx.Client) -> None:
    answers = [client.get("/"), client.post(PATH, content=FILM), client.post(PATH), client.post("/api/models")]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 405]
    for answer in answers:
        names = [name.lower() for name, _ in answer.headers.multi_items()]
        assert len(names) == len(set(names)), names
        for name in ("content-security-policy", "strict-transport-security", "x-content-type-options"):
            assert name in names, answer.url
    assert "POST" not in answers[-1].headers["allow"]


def test_every_file_of_the_page_is_public(proxy: Proxy) -> None:
    with proxy.client(None) as anonymous:
        assert anonymous.get("/").headers["content-type"].startswith("text/html")
        for path in FOLDER.rglob("*"):
            if path.is_file():
                url = f"/{path.relative_to(FOLDER)}"
                assert anonymous.get(url).status_code == 200, url
                problem(anonymous.post(url), 405)


def test_every_api_path_reaches_gateway(client: httpx.Client) -> None:
    result = 0
    for path, methods in create(Settings.read(history="none")).openapi()["paths"].items():
        for method in methods:
            if path.startswith(("/api/", "/v2")):
                response = client.request(method, path.format(name="x", version="1.0", result_id="0", case_id="1"))
                assert "Unknown path. Send images" not in response.text, path  # nginx' text
                assert "This path accepts" not in response.text, (method, path)
                result += 1
    assert result >= 9
    assert client.get("/api/models").json()["models"][0]["name"] == NAME


def test_the_gateway_does_not_change_health_and_metrics(proxy: Proxy, client: httpx.Client) -> None:
    assert client.get("/live").json()["state"] == "ready"  # the supervisor's
    problem(client.get("/metrics"), 404)
    for role, status in (("read", 200), ("predict", 403), (None, 401)):
        with proxy.client(role, proxy.metrics_url) as reader:
            result = reader.get("/metrics/gateway")
        assert result.status_code == status
        assert ("radserve_gateway_requests_total" in result.text) is (status == 200)
    with proxy.client("read", proxy.metrics_url) as reader:
        problem(reader.get("/api/models"), 404)
        problem(reader.get("/"), 404)


OPENED = {"/", f"/v2/models/{NAME}/infer"}
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
def test_the_gateway_opens_no_other_path(proxy: Proxy, path: str) -> None:
    for method in ("GET", "POST"):
        with proxy.connect() as connection:  # httpx would normalise some of the paths
            line = f"{method} {path.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            head = f"X-API-Key: {proxy.keys.texts['predict']}\r\nContent-Length: 0\r\n\r\n"
            connection.sendall((line + head).encode())
            status, document = answered(connection)
        assert status == 404 or (status == 400 and "%00" in path), (method, status)
        assert "Unknown path" in str(document["detail"]) or status == 400


def test_both_limit_the_size_of_bodies(client: httpx.Client) -> None:
    assert "20000000 bytes" in client.post(PATH, content=bytes(20_000_001)).json()["detail"]
    assert "longer than" in problem(client.post(PATH, content=bytes(46_000_000)), 413)


def test_a_gateway_on_a_socket_works_and_a_missing_one_checks_no_key(
    server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("gone")
    options = ("--gateway", f"unix:{folder / 'gateway.sock'}")
    with running_proxy(server, folder / "runtime", keys, folder, None, *options) as proxy, proxy.client() as client:
        assert "could not be checked" in problem(client.post(PATH, content=FILM), 503)
        problem(client.get("/api/models"), 502)
        for _ in range(2):  # the gateway restarts, nginx does not
            with gateway(server, folder, keys=keys.file, socket=folder / "gateway.sock"):
                assert client.post(PATH, content=FILM).json()["label"] == "pneumonia"
        problem(client.post(PATH, content=FILM), 503)


def test_a_gateway_on_a_socket_gets_the_address_of_the_client(server: Server, keys: Keys, tmp_path: Path) -> None:
    place = tmp_path / "gateway.sock"

    def ask(address: str) -> httpx.Response:
        headers = {"X-Forwarded-For": address, "X-Forwarded-Proto": "https", "X-API-Key": "radserve_wrong"}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(place)), base_url="http://radserve") as client:
            return client.get("/api/models", headers=headers)

    with gateway(server, tmp_path, keys=keys.file, socket=place, failures=1):
        answers = [ask("192.0.2.1"), ask("192.0.2.1"), ask("192.0.2.2")]
    assert [answer.status_code for answer in answers] == [401, 429, 401]
    assert "strict-transport-security" in answers[0].headers


def test_a_gateway_without_keys_rejects_remote_clients(server: Server, keys: Keys, tmp_path: Path) -> None:
    with (
        gateway(server, tmp_path) as behind,
        running_proxy(
            server, tmp_path / "runtime", keys, tmp_path, None, "--gateway", behind.url.removeprefix("http://")
        ) as proxy,
        proxy.client() as client,
    ):
        for host in ("radserve.example.org", "127.0.0.1", "localhost"):
            assert client.post(PATH, content=FILM, headers={"Host": host}).status_code == 403
        assert httpx.post(behind.url + PATH, content=FILM, timeout=60).status_code == 200
