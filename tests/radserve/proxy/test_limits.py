"""Limits of nginx: a real nginx in front of scripted servers."""

import asyncio
import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.host.run_directory import RunDirectory
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import Capacity
from tests.fake_supervisor import await_true
from tests.radserve.scripted import Reply, Request, Scripted, scripted
from tests.server import free_ports

PREDICTIONS = "/predictions/chest"
API = "/api/predictions/chest"
CAPACITY = Capacity(heap=1 << 30, requests=20, large=4)
LARGE = 5_000_000
RESPONSE_FILE = 2_000_000
TOO_MANY = (
    "Too many requests: a key may send 10000 per second and have 10 open, an address 40000 and 15; the server has 20 "
    "open, 4 of them with a body above 1 MB or of unknown length, of which 2 may be of one key. Retry in a second."
)


@dataclass
class Proxy:
    """A running nginx and its upstreams; `valid` and `other` are keys, `invalid` are not."""

    port: int
    supervisor: Scripted
    torchserve: Scripted
    valid: str
    other: str
    invalid: list[str]

    def open(self, length: int | None, key: str = "", path: str = PREDICTIONS, address: str = "") -> socket.socket:
        """Send the header of a request that announces a body, None for a chunked one, and a byte of the body."""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"X-API-Key: {key}\r\n" if key else ""
        head += f"X-Forwarded-For: {address}\r\n" if address else ""
        head += "Transfer-Encoding: chunked\r\n\r\n1\r\n" if length is None else f"Content-Length: {length}\r\n\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        connection.sendall(head.encode() + b"x")
        return connection

    def status(self, key: str, *, length: int = 3, address: str = "") -> int:
        headers = {"X-API-Key": key} | ({"X-Forwarded-For": address} if address else {})
        url = f"http://127.0.0.1:{self.port}{PREDICTIONS}"
        return httpx.post(url, content=bytes(length), headers=headers, timeout=30).status_code


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("limits")
    run_directory = RunDirectory(folder / "run")
    run_directory.folder.mkdir(mode=0o700)
    run_directory.ready.touch()
    (valid, other), invalid = created(folder / "keys.json", 2), created(folder / "invalid.json", 30)

    def supervise(request: Request) -> Reply:
        if request.path in ("/ready", "/live"):
            return Reply(200, b"{}")
        accepted = request.headers["Authorization"].removeprefix("Bearer ") in (valid, other)
        return Reply(204 if accepted else 401, media_type=None)

    with scripted() as supervisor, scripted(run_directory.inference) as torchserve, scripted() as gateway:
        supervisor.script, torchserve.script = supervise, lambda _: Reply(200, b"{}")
        gateway.script = lambda request: Reply(401 if request.path == "/auth" else 200, b"{}")
        port, management_port, metrics_port = free_ports(3)
        options = ProxyOptions("127.0.0.1", port, "127.0.0.1", management_port, metrics_port, rate=10_000)
        options = replace(options, trusted=("127.0.0.0/8",), access_log=folder / "log")
        options = replace(options, gateway=gateway.url.removeprefix("http://"))
        upstreams = Upstreams(supervisor.server_port, run_directory, 10_000_000, 60, CAPACITY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4 * CAPACITY.requests * RESPONSE_FILE))
            stack = ExitStack()
            stack.enter_context(running(Nginx(options, upstreams)))
        with stack:
            yield Proxy(port, supervisor, torchserve, valid, other, invalid)


def created(file: Path, count: int) -> list[str]:
    return [key_file.create(file, f"k{number}", [Role.PREDICT]) for number in range(count)]


@contextmanager
def running(nginx: Nginx) -> Iterator[None]:
    with asyncio.Runner() as runner:
        runner.run(nginx.start())
        try:
            yield
        finally:
            runner.run(nginx.stop())


def spooled(kind: str = "body") -> int:
    """Return the bytes of bodies, or of responses (proxy), in files of nginx's workers, whose names may be gone."""
    total = 0
    for worker in (item for item in psutil.Process().children(recursive=True) if item.name() == "nginx"):
        for link in Path(f"/proc/{worker.pid}/fd").iterdir():
            if f"/{kind}/" in str(link.readlink()):
                total += link.stat().st_size
    return total


def response(connection: socket.socket) -> tuple[int, str]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, str(json.loads(answer.read() or b"{}").get("detail", ""))


@pytest.mark.parametrize("path", [PREDICTIONS, API])
def test_no_body_is_stored_before_authentication(proxy: Proxy, path: str) -> None:
    with proxy.open(LARGE, proxy.invalid[0], path) as connection:
        try:
            for _ in range(4):
                connection.sendall(bytes(LARGE // 5))
                time.sleep(0.05)
                assert spooled() == 0
        except ConnectionError:  # nginx has responded and closed
            pass
        assert spooled() == 0
    with proxy.open(LARGE, proxy.invalid[0], path) as connection:
        assert response(connection)[0] == 401  # although the body has not arrived
    with proxy.open(LARGE, proxy.valid) as connection:
        connection.sendall(bytes(LARGE // 2))
        time.sleep(0.3)
        assert spooled() > LARGE // 3  # the measurement works


@pytest.mark.parametrize("path", ["/ready", "/live", "/catalog", "/", "/index.html", "/api/models", "/api/results/1"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_no_body_is_stored_where_none_is_expected(proxy: Proxy, path: str, method: str) -> None:
    for length in ("Content-Length: 5000000", "Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {proxy.valid}\r\nConnection: close\r\n"
            connection.sendall(f"{head}{length}\r\n\r\n".encode())
            try:
                connection.sendall((b"200000\r\n" if "chunked" in length else b"") + bytes(2 << 20))
            except ConnectionError:
                continue
            time.sleep(0.05)
            assert spooled() == 0


def test_one_key_holds_at_most_half_of_the_queue(proxy: Proxy) -> None:
    with ExitStack() as stack:
        for _ in range(CAPACITY.per_key):
            stack.enter_context(proxy.open(9, proxy.valid))
        time.sleep(0.3)
        with proxy.open(9, proxy.valid) as rejected:
            assert response(rejected) == (429, TOO_MANY)
        assert proxy.status(proxy.other) == 200
    time.sleep(0.3)
    assert proxy.status(proxy.valid) == 200


def test_the_server_bounds_all_requests_together(proxy: Proxy) -> None:
    with ExitStack() as stack:
        for key, address in ((proxy.valid, "192.0.2.1"), (proxy.other, "192.0.2.2")):
            for _ in range(CAPACITY.requests // 2):
                stack.enter_context(proxy.open(9, key, address=address))
        time.sleep(0.3)
        assert proxy.status(proxy.invalid[0], address="192.0.2.3") == 429
    time.sleep(0.3)
    assert proxy.status(proxy.invalid[0], address="192.0.2.3") == 401


@pytest.mark.parametrize("length", [LARGE, 1_000_000, None])
def test_large_bodies_are_bounded_too(proxy: Proxy, length: int | None) -> None:
    """In all, and one key has at most half of the places."""
    with ExitStack() as stack:
        for key in (proxy.valid, proxy.other):
            for _ in range(CAPACITY.large // 2):
                stack.enter_context(proxy.open(length, key))
            time.sleep(1)
            with proxy.open(LARGE, key) as rejected:
                assert response(rejected) == (429, TOO_MANY)
        with proxy.open(LARGE, proxy.invalid[0], address="192.0.2.1") as rejected:
            assert response(rejected)[0] == 429
        assert proxy.status(proxy.other, length=999_999) == 200
    await_true(lambda: proxy.status(proxy.valid, length=LARGE) == 200)


def test_responses_that_clients_do_not_read_fill_no_disk(proxy: Proxy) -> None:
    script, body = proxy.torchserve.script, bytes(20_000_000)
    proxy.torchserve.script = lambda _: Reply(200, body)
    try:
        with ExitStack() as stack:
            connections = [stack.enter_context(proxy.open(1, proxy.valid)) for _ in range(3)]
            before = -1
            while (size := spooled("proxy")) != before:
                before = size
                time.sleep(0.5)
            assert 0 < size <= len(connections) * (RESPONSE_FILE + 65536)
            for connection in connections:  # the rest is not lost
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert answer.read() == body
    finally:
        proxy.torchserve.script = script


def test_invented_keys_do_not_multiply_an_address(proxy: Proxy) -> None:
    invented = proxy.invalid[1:]  # the decision about the first one may be cached
    waiting, proceed = threading.Semaphore(0), threading.Event()
    script = proxy.supervisor.script

    def slow(request: Request) -> Reply:
        waiting.release()
        proceed.wait(10)
        return script(request)

    proxy.supervisor.script = slow
    try:
        with ExitStack() as stack:
            connections = [stack.enter_context(proxy.open(9, key)) for key in invented]
            for _ in range(CAPACITY.per_address):
                assert waiting.acquire(timeout=10)
            time.sleep(0.3)
            assert not waiting.acquire(blocking=False)
            proceed.set()
            statuses = [response(connection)[0] for connection in connections]
    finally:
        proxy.supervisor.script = script
        proceed.set()
    assert statuses.count(401) == CAPACITY.per_address
    assert statuses.count(429) == len(invented) - CAPACITY.per_address


@pytest.mark.parametrize(
    ("addresses", "limited"),
    [
        ([f"2001:db8:0:1::{number:x}" for number in range(1, 80)], True),
        ([f"2001:db8:0:2:{number:x}::1" for number in range(1, 80)], True),
        ([f"2001:db8:1:{number:x}::1" for number in range(1, 80)], False),
        ([f"::ffff:192.0.2.{number}" for number in range(1, 80)], False),
        ([f"198.51.100.{number}" for number in range(1, 80)], False),
    ],
)
def test_one_network_of_ipv6_is_one_client(proxy: Proxy, addresses: list[str], limited: bool) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}") as client:
        statuses = {client.get("/ready", headers={"X-Forwarded-For": address}).status_code for address in addresses}
    assert statuses == ({200, 429} if limited else {200})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/9\r\nHost: x\r\n\r\n", 505),
        (b"GET / HTTP/x\r\nHost: x\r\n\r\n", 400),
        (b"G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x/\\\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /ready HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"TRACE /ready HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40 + b"\r\n\r\n", 400),
    ],
)
def test_errors_of_nginx_itself_are_problem_documents(proxy: Proxy, request_: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), data
    assert b"\r\nContent-Type: application/problem+json" in head
    document = json.loads(body)
    assert document["status"] == status
    assert document["title"] != "Error"
