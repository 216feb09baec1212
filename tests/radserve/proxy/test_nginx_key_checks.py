"""Checks of keys by a real nginx, in front of scripted servers that fail; unknown models; outcomes of requests."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.host.run_directory import RunDirectory
from radserve.proxy import traffic_split
from radserve.proxy.configuration import Upstreams
from radserve.proxy.nginx import Nginx
from radserve.proxy.options import ProxyOptions
from radserve.proxy.traffic_split import Routing
from radserve.torchserve.capacity import Capacity
from tests.fake_supervisor import access_events, await_true
from tests.proxy import problem
from tests.radserve.proxy.test_limits import running
from tests.radserve.scripted import Reply, Request, Scripted, scripted
from tests.server import free_ports

GATEWAY, SERVER = "/api/predictions/chest", "/predictions/chest"
RATE = 20
"""Requests per second of a key; an address has four times as many."""


@dataclass
class Proxy:
    """A running nginx and the servers behind it."""

    url: str
    metrics_url: str
    key: str
    run_directory: RunDirectory
    supervisor: Scripted
    torchserve: Scripted
    gateway: Scripted

    def post(self, path: str, key: str | None = None, **headers: str) -> httpx.Response:
        headers = {"X-API-Key": key or self.key} | headers
        return httpx.post(self.url + path, content=b"film", headers=headers, timeout=30)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    run_directory = RunDirectory(tmp_path / "run")
    run_directory.folder.mkdir(mode=0o700)
    run_directory.ready.touch()
    key = key_file.create(tmp_path / "keys.json", "ward", [Role.PREDICT])
    with scripted() as supervisor, scripted(run_directory.inference) as torchserve, scripted() as gateway:
        supervisor.script = gateway.script = lambda request: Reply(
            204 if request.path == "/auth" else 200, media_type=None
        )
        torchserve.script = lambda _: Reply(200, b"{}")
        port, management_port, metrics_port = free_ports(3)
        options = ProxyOptions("127.0.0.1", port, "127.0.0.1", management_port, metrics_port, rate=RATE)
        options = replace(options, access_log=tmp_path / "log", gateway=gateway.url.removeprefix("http://"))
        capacity = Capacity(heap=1 << 30, requests=64, large=8)
        upstreams = Upstreams(supervisor.server_port, run_directory, 10_000_000, 60, capacity)
        url, metrics_url = (f"http://127.0.0.1:{number}" for number in (port, metrics_port))
        with running(Nginx(options, upstreams)):
            yield Proxy(url, metrics_url, key, run_directory, supervisor, torchserve, gateway)


def hang(_: Request) -> Reply:
    time.sleep(6)  # nginx waits for 5 s
    return Reply(204, media_type=None)


FAILURES: dict[str, Callable[[Request], Reply]] = {
    "unavailable": lambda _: Reply(503, b"{}", headers={"Retry-After": "9"}),
    "failed": lambda _: Reply(500, b"{}"),
    "older release": lambda _: Reply(404, b"{}"),
    "redirect": lambda _: Reply(302, headers={"Location": "/auth/"}),
    "closed early": lambda _: Reply(200, b"", announced=1 << 20, headers={"X": "x" * 70_000}),
    "silent": hang,
}


@pytest.mark.parametrize("path", [GATEWAY, SERVER])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_body_is_not_forwarded_if_its_key_cannot_be_checked(
    path: str, failure: Callable[[Request], Reply], proxy: Proxy
) -> None:
    checking, serving = (proxy.gateway, proxy.gateway) if path == GATEWAY else (proxy.supervisor, proxy.torchserve)
    checking.script = failure
    response = proxy.post(path)
    assert "could not be checked" in problem(response, 503)
    assert int(response.headers["Retry-After"]) >= 5
    assert not any(request.body for request in serving.requests)


@pytest.mark.parametrize("path", [GATEWAY, SERVER])
def test_body_is_not_forwarded_if_the_checking_service_is_down(path: str, proxy: Proxy) -> None:
    for server in (proxy.gateway, proxy.supervisor):
        server.shutdown()
        server.socket.close()
    assert "could not be checked" in problem(proxy.post(path), 503)
    assert proxy.torchserve.requests == []


def test_limit_of_failures_reaches_the_client(proxy: Proxy) -> None:
    proxy.gateway.script = lambda _: Reply(429, b"{}", headers={"Retry-After": "42"})
    response = proxy.post(GATEWAY)
    assert "without a valid key" in problem(response, 429)
    assert response.headers["Retry-After"] == "42"


@pytest.mark.parametrize("status", [401, 403])
def test_rejected_key_stays_rejected(status: int, proxy: Proxy) -> None:
    proxy.gateway.script = lambda _: Reply(status, b"{}")
    problem(proxy.post(GATEWAY), status)


@pytest.mark.parametrize("name", ["torchserve", "supervisor", "gateway"])
def test_invented_keys_do_not_multiply_an_address_at_metrics(name: str, proxy: Proxy) -> None:
    proxy.supervisor.script = lambda _: Reply(401, media_type=None)
    with httpx.Client(base_url=proxy.metrics_url, timeout=30) as client:
        keys = (f"radserve_{number:012x}_{number:064x}" for number in range(20 * RATE))
        statuses = [client.get(f"/metrics/{name}", headers={"X-API-Key": key}).status_code for key in keys]
    assert set(statuses) == {401, 429}
    assert len(proxy.supervisor.requests) == statuses.count(401)


@pytest.mark.parametrize("verb", ["predictions", "explanations"])
@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        ("chest", None),
        ("chest/1.0.0", None),
        ("brain", "model brain"),
        ("chest/9.9", "version 9.9 of chest"),
        ("a/1.0", "a"),
    ],
)
def test_unknown_model_is_a_problem_that_names_it(verb: str, path: str, unknown: str | None, proxy: Proxy) -> None:
    registered = {("chest", "1.0.0"), ("chest", "1.1.0")}
    traffic_split.write(Routing({"chest": {"1.0.0": 100}}, registered=registered), proxy.run_directory)
    response = proxy.post(f"/{verb}/{path}")
    if unknown is None:
        assert response.status_code == 200
    else:
        detail = problem(response, 404)
        assert unknown in detail
        assert "/catalog" in detail
        assert proxy.torchserve.requests == []


def test_torchserve_decides_without_a_list_of_models(proxy: Proxy) -> None:
    traffic_split.write(Routing({"chest": {"1.0.0": 100}}), proxy.run_directory)
    assert proxy.post("/predictions/brain").status_code == 200
    traffic_split.clear(proxy.run_directory)
    assert proxy.post("/predictions/brain").status_code == 200


@pytest.mark.parametrize(
    ("client", "outcomes"),
    [(None, {"label": {"a": 1}}), ("not valid", {"label": {"a": 1}}), ("ward-7", {})],
)
def test_only_requests_assigned_at_random_have_outcomes(
    client: str | None, outcomes: dict[str, dict[str, int]], proxy: Proxy
) -> None:
    traffic_split.write(Routing({"chest": {"1.0.0": 100}}), proxy.run_directory)
    proxy.torchserve.script = lambda _: Reply(200, b"{}", headers={"X-Outcome": "label:a:1"})
    with access_events(proxy.run_directory.traffic) as seen:
        await_true(lambda: proxy.post(SERVER, **({"X-Client-Id": client} if client else {})).is_success and bool(seen))
    assert seen[-1].outcomes == outcomes


@pytest.mark.parametrize("path", [GATEWAY, SERVER])
def test_clients_do_not_receive_the_outcomes(path: str, proxy: Proxy) -> None:
    proxy.torchserve.script = lambda _: Reply(200, b"{}", headers={"X-Outcome": "label:a:1"})
    proxy.gateway.script = lambda request: Reply(
        204 if request.path == "/auth" else 200, media_type=None, headers={"X-Outcome": "label:a:1"}
    )
    response = proxy.post(path)
    assert response.is_success
    assert "x-outcome" not in response.headers
