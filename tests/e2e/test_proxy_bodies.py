"""Request bodies and headers through the proxy."""

import gzip
import time
from pathlib import Path

import httpx
import pytest

from tests.proxy import Keys, Proxy, answered, problem, running_proxy
from tests.radserve.scripted import Reply, scripted
from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"
TOO_LONG = 44805462
TRACEPARENT = f"00-{'5' * 32}-{'7' * 16}-01"


def test_only_the_body_and_its_headers_are_forwarded(server: Server, runtime: Path, keys: Keys, tmp_path: Path) -> None:
    """Keys and the names that instruct a handler are dropped."""
    sent = {
        "Accept": "application/json",
        "Content-Type": "image/png",
        "Content-Encoding": "identity",
        "X-Assurances": "age=5, view=PA",
        "X-Request-Id": "known",
        "Traceparent": TRACEPARENT,
        "Tracestate": "vendor=1",
        **dict.fromkeys(("explain", "Explain", "describe", "url_path", "url-path", "X-Anything", "Cookie"), "True"),
    }
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    (folder / "ready").symlink_to(runtime / "ready")
    with (
        scripted(folder / "inference.sock") as upstream,
        running_proxy(server, folder, keys, tmp_path, None) as proxy,
    ):
        upstream.script = lambda _: Reply(body=b"{}")
        with proxy.client() as client:
            assert client.post(f"{PATH}?body=x&repair=invert", content=FILM, headers=sent).json() == {}
            for malformed in (f"{TRACEPARENT}-more", TRACEPARENT.replace("7", "A"), f"ff{TRACEPARENT[2:]}", "x"):
                client.post(PATH, content=FILM, headers={"Traceparent": malformed})
        request, *untraced = upstream.requests
    assert [[name for name in item.headers if name.lower() == "traceparent"] for item in untraced] == [[]] * 4
    assert (request.path.partition("?")[0], request.body) == (PATH, FILM)
    assert {name.lower(): value for name, value in request.headers.items()} == {
        "host": "radserve",
        "content-length": str(len(FILM)),
        "accept": "application/json",
        "content-type": "image/png",
        "content-encoding": "identity",
        "x-assurances": "age=5, view=PA",
        "x-repair": "invert",
        "x-request-id": "known",
        "traceparent": TRACEPARENT,
    }


def test_chunked_compressed_and_announced_bodies_are_accepted(client: httpx.Client, proxy: Proxy) -> None:
    wanted = client.post(PATH, content=FILM).json()
    chunks = (FILM[start : start + 999] for start in range(0, len(FILM), 999))
    assert client.post(PATH, content=chunks).json() == wanted
    zipped = client.post(PATH, content=gzip.compress(FILM), headers={"Content-Encoding": "gzip"})
    assert zipped.json()["probability"] == wanted["probability"]
    assert client.post(PATH, content=FILM, headers={"Accept": "text/html"}).status_code == 406
    with proxy.connect() as connection:
        lines = (f"POST {PATH} HTTP/1.1", "Host: x", f"X-API-Key: {proxy.keys.texts['predict']}")
        more = (f"Content-Length: {len(FILM)}", "Expect: 100-continue", "Connection: close")
        connection.sendall("\r\n".join([*lines, *more, "", ""]).encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(FILM)
        assert answered(connection) == (200, wanted)


def test_a_form_is_rejected_with_the_right_curl_command(client: httpx.Client) -> None:
    media_types = (
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
        "multipart/form-data; boundary=x",
        "Multipart/Mixed; boundary=x",
    )
    for media in media_types:
        response = client.post(PATH, content=FILM, headers={"Content-Type": media})
        assert "curl -T" in problem(response, 415)


def test_a_body_above_the_limit_is_rejected_early(client: httpx.Client, proxy: Proxy) -> None:
    with proxy.connect() as connection:
        lines = (f"POST {PATH} HTTP/1.1", "Host: x", f"X-API-Key: {proxy.keys.texts['predict']}")
        connection.sendall(
            "\r\n".join([*lines, f"Content-Length: {TOO_LONG}", "Expect: 100-continue", "", ""]).encode()
        )
        status, document = answered(connection)
    assert status == 413
    assert "44805461 bytes" in str(document["detail"])
    chunks = (bytes(1 << 20) for _ in range(44))
    problem(client.post(PATH, content=chunks), 413)
    # The longest allowed body: TorchServe reads it, and the handler rejects its content.
    longest = client.post(PATH, content=bytes(TOO_LONG - 1))
    assert longest.status_code in (413, 415)
    assert "radserve" not in longest.headers


def test_a_slow_client_occupies_no_worker(proxy: Proxy, server: Server) -> None:
    def busy() -> float:
        lines = httpx.get(server.metrics_url).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("ts_inference_requests_total{"))

    with proxy.connect() as connection:
        lines = (f"POST {PATH} HTTP/1.1", "Host: x", f"X-API-Key: {proxy.keys.texts['predict']}", "Connection: close")
        connection.sendall("\r\n".join([*lines, f"Content-Length: {len(FILM)}", "", ""]).encode())
        before = busy()
        for start in range(0, len(FILM) - 1, len(FILM) // 5):
            connection.sendall(FILM[start : min(start + len(FILM) // 5, len(FILM) - 1)])
            time.sleep(0.1)
        assert busy() == before
        connection.sendall(FILM[-1:])
        status, _ = answered(connection)
        assert status == 200
        assert busy() == before + 1
