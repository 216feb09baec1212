"""Start and stop of the proxy."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from benchmarks.server import free_ports
from tests.conftest import ROOT
from tests.proxy import Keys, await_text, problem, running_proxy
from tests.repack import FILM, NAME
from tests.server import Server, command, running

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"


def nginx(pid: int) -> tuple[psutil.Process, list[psutil.Process]]:
    """Return nginx's master and workers below a process."""
    (master,) = [child for child in psutil.Process(pid).children() if child.name() == "nginx"]
    workers = master.children()
    assert workers
    return master, workers


def open_connections(worker: psutil.Process, url: str) -> int:
    """Count the connections to a port that a worker has accepted."""
    port = urlsplit(url).port
    result = worker.net_connections("tcp4")
    return sum(item.status == psutil.CONN_ESTABLISHED and item.laddr.port == port for item in result)


def test_a_killed_proxy_leaves_no_process_and_can_start_again(server: Server, keys: Keys, tmp_path: Path) -> None:
    folder = tmp_path / "runtime"
    with running_proxy(server, folder, keys, tmp_path, None) as proxy:
        master, workers = nginx(proxy.process.pid)
        proxy.process.kill()
        _, alive = psutil.wait_procs([master, *workers], timeout=10)
        assert alive == []
    with running_proxy(server, folder, keys, tmp_path, None) as proxy, proxy.client() as client:
        assert client.get("/live").status_code == 200


def join(folder: Path, runtime: Path) -> None:
    """Lead a proxy's run directory to a ready server's."""
    for name in ("inference.sock", "ready"):
        (folder / name).symlink_to(runtime / name)


def test_a_proxy_answers_503_until_its_server_is_ready(
    server: Server, runtime: Path, keys: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "runtime"
    with running_proxy(server, folder, keys, tmp_path, None) as proxy, proxy.client() as client:
        refused = client.post(PATH, content=FILM)
        assert "see /ready" in problem(refused, 503)
        assert refused.headers["retry-after"] == "5"
        join(folder, runtime)
        assert client.post(PATH, content=FILM).status_code == 200


def test_requests_in_flight_are_finished_when_a_proxy_stops(
    server: Server, runtime: Path, keys: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    join(folder, runtime)
    statuses: list[int] = []
    with running_proxy(server, folder, keys, tmp_path, None) as proxy:

        def ask() -> None:
            with proxy.client() as client:
                statuses.append(client.post(PATH, content=trickle()).status_code)

        def trickle() -> Iterator[bytes]:
            for start in range(0, len(FILM), 2000):
                yield FILM[start : start + 2000]
                time.sleep(0.1)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        _, workers = nginx(proxy.process.pid)
        while sum(open_connections(worker, proxy.url) for worker in workers) < 8:
            time.sleep(0.01)
        proxy.process.terminate()
        for thread in threads:
            thread.join()
        assert proxy.process.wait(timeout=30) == 0
    assert statuses == [200] * 8


def published(*options: str) -> tuple[str, ...]:
    """Return the options of a server that starts its proxy and one worker, unless they set --workers."""
    ports = map(str, free_ports(2))
    names = ("--management-port", "--metrics-port-public")
    return ("--front", "--workers", "1", *(word for pair in zip(names, ports, strict=True) for word in pair), *options)


def test_a_published_server_starts_and_stops_without_losing_a_request(store: Path, keys: Keys, tmp_path: Path) -> None:
    ports, log = free_ports(3), tmp_path / "access.log"
    arguments = published("--keys", str(keys.file), "--access-log", str(log), "--drain-delay", "1.5")
    url, headers = f"http://127.0.0.1:{ports[0]}", {"X-API-Key": keys.texts["predict"]}
    with (tmp_path / "log").open("w") as file:
        process = subprocess.Popen(command(store, ports, *arguments), stdout=subprocess.DEVNULL, stderr=file, cwd=ROOT)
    try:
        await_text(tmp_path / "log", "proxy listening", process)
        assert httpx.get(f"{url}/ready").status_code == 503
        assert httpx.get(f"{url}/live").status_code == 200
        early = httpx.post(url + PATH, content=FILM, headers=headers)
        assert problem(early, 503)
        while httpx.get(f"{url}/ready").status_code != 200:
            time.sleep(0.05)
        clients = Clients(url, headers)
        clients.start()
        time.sleep(1)
        process.terminate()
        time.sleep(0.3)
        assert httpx.get(f"{url}/ready").json()["state"] == "draining"
        before = clients.count
        time.sleep(0.7)
        assert clients.count > before, "requests are answered during the delay"
        assert process.wait(timeout=60) == 0
        clients.join()
    finally:
        process.kill()
        process.wait()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    answers = [line for line in lines if line["path"] == PATH and line["request_id"] != early.headers["x-request-id"]]
    assert {line["status"] for line in answers} == {200}
    # Every accepted request was answered, and each client ended when the listening socket was closed.
    assert len(answers) == clients.count
    assert len(clients.ends) == 8


class Clients:
    """Eight clients that send requests over new connections until one is refused."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.count = 0
        self.ends: list[httpx.HTTPError] = []
        lock = threading.Lock()

        def ask() -> None:
            while True:
                try:
                    response = httpx.post(url + PATH, content=FILM, headers=headers, timeout=30)
                except httpx.HTTPError as error:
                    self.ends.append(error)
                    return
                with lock:
                    self.count += response.status_code == httpx.codes.OK

        self._threads = [threading.Thread(target=ask) for _ in range(8)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def test_a_killed_server_is_503_until_it_is_started_again(store: Path, keys: Keys, tmp_path: Path) -> None:
    """The proxy is another process: no request waits for the dead server or sees a refused connection."""
    folder = tmp_path / "runtime"
    options = ("--keys", str(keys.file), "--runtime", str(folder), "--workers", "1")  # also when it is started again
    with (
        running(store, tmp_path / "log", *options) as server,
        running_proxy(server, folder, keys, tmp_path, None) as proxy,
        proxy.client() as client,
    ):
        assert client.post(PATH, content=FILM).status_code == 200
        processes = server.java() + server.workers()
        start = time.monotonic()
        server.process.kill()
        server.process.wait()
        while client.post(PATH, content=FILM).status_code != 503:
            assert time.monotonic() < start + 2
        refused = client.post(PATH, content=FILM)
        assert "see /ready" in problem(refused, 503)
        assert refused.headers["retry-after"] == "5"
        assert psutil.wait_procs(processes, timeout=15)[1] == []
        start = time.monotonic()
        again = subprocess.Popen(server.process.args, stdout=subprocess.DEVNULL, cwd=ROOT)
        try:
            statuses: list[int] = []
            while 200 not in statuses:
                assert time.monotonic() < start + 90
                statuses.append(client.post(PATH, content=FILM).status_code)
                time.sleep(0.02)
            assert set(statuses) == {200, 503}
        finally:
            again.terminate()
            assert again.wait(timeout=90) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0", "--plain-http"), "--keys is missing"),
        (("--host", "0.0.0.0", "--keys", "KEYS"), "--plain-http if a load balancer terminates TLS"),
        (("--host", "::", "--keys", "KEYS", "--certificate", "x.pem"), "belong together"),
        (("--no-front", "--host", "192.0.2.1"), "for 'radserve front' instead"),
        (("--no-front", "--gateway", "127.0.0.1:8000"), "for 'radserve front' instead"),
        (("--gateway", "127.0.0.1:8000"), "add --front"),
        (("--host", "example.org", "--keys", "KEYS"), "write an IP address"),
        (("--front", "--keys", "nowhere.json"), "radserve keys create"),
        (("--front", "--keys", "KEYS", "--trusted-proxy", "10.0.0.0/99"), "--trusted-proxy"),
        (("--front", "--keys", "KEYS", "--certificate", "x.pem", "--certificate-key", "x.key"), "x.pem: No such file"),
        (("--front", "--keys", "KEYS", "--access-log", "/nowhere/log"), "--access-log /nowhere/log"),
        (("--runtime", "/"), "--runtime /"),
    ],
)
def test_unsafe_and_invalid_options_are_rejected_with_a_solution(
    store: Path, keys: Keys, options: tuple[str, ...], message: str
) -> None:
    arguments = [str(keys.file) if word == "KEYS" else word for word in options]
    proxy = published()[1:] if "--no-front" not in arguments else ()
    line = command(store, free_ports(3), *proxy, *arguments)
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("radserve: ")
    assert message in done.stderr
    assert done.stdout == ""
