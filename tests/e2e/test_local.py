"""A server on loopback: nginx without keys, which guards TorchServe against forms, other methods and web pages."""

import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.proxy import answered, problem
from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"
PATIENT = b"CASE6^PATIENT"
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def part(*headers: bytes) -> bytes:
    return b"\r\n".join([b"--b", *headers, b"", b"x", b"--b--"])


FILE = b"Content-Disposition: form-data; name=a; filename=a"
QUOTED = [
    (URLENCODED, b"a=" + PATIENT + b"%z"),
    (URLENCODED, b"a=" + PATIENT + b"%zz&b=1"),
    (MULTIPART, part(b"Content-Disposition: form-data; name=a; filename*=" + PATIENT + b"''%zz")),
    (MULTIPART, part(b"Content-Disposition: form-data; name=a; filename*=utf-8''" + PATIENT + b"%zz")),
    (MULTIPART, part(b"Content-Disposition: form-data; name=a", b"Content-Type: text/plain; charset=" + PATIENT)),
    (MULTIPART, part(FILE, b"Content-Transfer-Encoding: " + PATIENT)),
    (f"{MULTIPART}; charset={PATIENT.decode()}", b"--b\r\n"),
]
"""Bodies that TorchServe's decoders quote in their errors: each kind of message that was found."""
FORMS = [
    *QUOTED,
    (URLENCODED, PATIENT),
    (f"{URLENCODED.upper()} ; charset=utf-8", PATIENT),
    (URLENCODED, b"=&=" + PATIENT),
    (URLENCODED, b"a=\r" + PATIENT),
    (MULTIPART, part(b"Content-Disposition: " + PATIENT)),
    (MULTIPART, part(b"Content-Type: multipart/mixed", b"X: " + PATIENT)),
    (MULTIPART, part(FILE, b"Content-Type: multipart/mixed; boundary=c") + b"--c\r\n" + PATIENT),
    (MULTIPART, part(FILE, b"Content-Length: " + PATIENT)),
    ("multipart/form-data", PATIENT),
    ("Multipart/Mixed; boundary=b", PATIENT),
]


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as made:
        yield made


@pytest.mark.parametrize(("media_type", "body"), FORMS)
@pytest.mark.parametrize("path", [PATH, f"{PATH}/1.0.0", f"/explanations/{NAME}"])
def test_no_form_reaches_torchserve(
    client: httpx.Client, server: Server, media_type: str, body: bytes, path: str
) -> None:
    detail = problem(client.post(path, content=body, headers={"Content-Type": media_type}), 415)
    assert "curl -T" in detail
    assert PATIENT.decode() not in server.log.read_text()


def test_a_second_content_type_changes_nothing(server: Server) -> None:
    """nginx forwards the content type that it has checked, or rejects both."""
    for first, second in ((URLENCODED, "image/png"), ("image/png", URLENCODED)):
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(FILM)}\r\n"
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(f"{head}Content-Type: {first}\r\nContent-Type: {second}\r\n\r\n".encode() + FILM)
            assert answered(connection)[0] == (415 if first == URLENCODED else 200)


def test_torchserves_log_never_quotes_a_body(server: Server, runtime: Path) -> None:
    """Also if a form reaches its decoders, which only this program's user can bring about."""
    before = len(server.log.read_text())
    quoted = 0
    for media_type, body in QUOTED:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(runtime / "inference.sock")), base_url="http://torchserve", timeout=30
        ) as direct:
            text = direct.post(PATH, content=body, headers={"Content-Type": media_type}).text
            quoted += PATIENT.decode().lower() in text.lower()
    assert quoted == len(QUOTED)  # the bodies do trigger the messages
    log = server.log.read_text()[before:]
    assert log.count('"logger":"HttpRequestHandler"') == len(QUOTED)
    assert "ErrorDataDecoderException" in log
    assert "case6" not in log.lower()


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_only_documented_methods_predict(client: httpx.Client, method: str) -> None:
    response = client.request(method, PATH, content=FILM)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST, PUT"


HOSTS = ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:9", "127.1.2.3", "[::1]", "[::1]:8080"]
FOREIGN = ["x", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil", "10.0.0.1"]


@pytest.mark.parametrize("host", HOSTS)
def test_the_names_of_this_machine_are_accepted(server: Server, host: str) -> None:
    for origin in ({}, {"Origin": f"http://{host}"}):
        headers = {"Host": host} | origin
        assert httpx.post(server.url + PATH, content=FILM, headers=headers, timeout=30).status_code == 200
        for url in (server.metrics_url, f"{server.health_url}/catalog", f"{server.health_url}/metrics"):
            assert httpx.get(url, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in FOREIGN),
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "localhost", "Origin": "http://127.0.0.1"},
        {"Host": "localhost", "Origin": "https://localhost"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_web_pages_reach_no_port(server: Server, headers: dict[str, str]) -> None:
    """Neither a page of another site, nor one whose name resolves to this machine."""
    rejected = httpx.post(server.url + PATH, content=FILM, headers=headers | {"Content-Type": "text/plain"})
    assert "loopback" in problem(rejected, 403)
    for path in ("/ready", "/catalog", "/ping", "/shadow", "/"):
        assert httpx.get(server.url + path, headers=headers).status_code == 403
    urls = (server.metrics_url, *(f"{server.health_url}/{name}" for name in ("ready", "catalog", "metrics", "auth")))
    assert {httpx.get(url, headers=headers).status_code for url in urls} == {403}


def test_torchserve_listens_on_grpcs_two_ports_only_and_its_sockets_are_private(server: Server, runtime: Path) -> None:
    """tests/e2e/test_grpc.py shows that these two are unusable."""
    (java,) = server.java()
    listening = [item.laddr for item in java.net_connections("tcp") if item.status == "LISTEN"]
    assert [address.ip.removeprefix("::ffff:") for address in listening] == ["127.0.0.1"] * 2
    assert {path.name for path in runtime.glob("*.sock")} >= {"inference.sock", "metrics.sock", "management.sock"}
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


def test_no_rate_limits_this_machine(client: httpx.Client) -> None:
    assert {client.get("/ready").status_code for _ in range(300)} == {200}
