"""Management port of the proxy."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import proxy as proxies
from tests.fake_supervisor import Control, controlled
from tests.proxy import Keys, Proxy, problem
from tests.server import Server

pytestmark = pytest.mark.e2e

NAME = "chest-xray-cnn"
VERSION = f"/versions/{NAME}/1.1.0"
ROUTES = {
    # TorchServe's own management API
    "/models": "GET",
    "/models?limit=2&next_page_token=1": "GET",
    "/models?url=chest-1.1.0.mar": "POST",
    "/models?initial_workers=2&url=chest-1.1.0.mar&synchronous=true&reason=Better%20on%20films": "POST",
    f"/models/{NAME}": "GET PUT DELETE",
    f"/models/{NAME}/all": "GET PUT DELETE",
    f"/models/{NAME}/1.0.0": "GET PUT DELETE",
    f"/models/{NAME}/1.0.0?min_worker=2&synchronous=true&reason=load": "GET PUT DELETE",
    f"/models/{NAME}/1.0.0/set-default": "PUT",
    f"/models/{NAME}/1.0.0/set-default?reason=back": "PUT",
    # the control API
    "/versions": "GET",
    f"/versions/{NAME}": "GET",
    VERSION: "POST PATCH DELETE",
    f"{VERSION}?force=true&reason=it%27s+old": "DELETE",
    f"{VERSION}/promote": "POST",
    f"/versions/{NAME}/rollback": "POST",
    "/deployment": "GET PUT",
    "/deployment?reason=Week%2042": "PUT",
    "/deployment/diff": "POST",
    "/rollouts": "GET",
    f"/rollouts/{NAME}": "GET POST DELETE",
    f"/rollouts/{NAME}?reason=slow": "DELETE",
    "/audit": "GET",
    "/audit?limit=20": "GET",
}


@pytest.fixture(scope="module")
def managed(server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Control]]:
    """Run a proxy in front of a fake supervisor."""
    folder = tmp_path_factory.mktemp("managed")
    runtime = folder / "runtime"
    options = ("--rate", "100000")
    with (
        proxies.running_proxy(server, runtime, keys, folder, None, *options) as proxy,
        controlled(runtime / "control.sock") as control,
    ):
        yield proxy, control


@pytest.fixture
def client(managed: tuple[Proxy, Control]) -> Iterator[httpx.Client]:
    proxy, control = managed
    control.requests.clear()
    with proxy.client("manage", proxy.management_url) as result:
        yield result


@pytest.mark.parametrize("path", ROUTES)
def test_a_path_accepts_only_its_methods(managed: tuple[Proxy, Control], client: httpx.Client, path: str) -> None:
    _, control = managed
    allowed = ROUTES[path].split()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client.request(method, path)
        if method in allowed:
            assert answer.json() == {"path": path.partition("?")[0]}
            assert control.requests[-1].query == path.partition("?")[2]
            assert control.requests[-1].method == method
        else:
            assert answer.status_code == 405, method
            assert answer.headers["allow"].split(", ") == allowed
    assert len(control.requests) == len(allowed)


@pytest.mark.parametrize(("role", "status"), [("predict", 403), ("read", 403), (None, 401)])
def test_management_needs_the_role_manage(managed: tuple[Proxy, Control], role: str | None, status: int) -> None:
    proxy, control = managed
    control.requests.clear()
    with proxy.client(role, proxy.management_url) as client:
        for path, methods in ROUTES.items():
            for method in methods.split():
                problem(client.request(method, path), status)
    assert control.requests == []


def test_the_supervisor_gets_the_name_of_the_key_from_the_proxy_only(
    managed: tuple[Proxy, Control], client: httpx.Client
) -> None:
    _, control = managed
    sent = {"X-Key-Name": "root", "X-Actor": "root", "X-Request-Id": "ward-7.42", "X-Anything": "x", "Cookie": "x"}
    answer = client.post(f"/rollouts/{NAME}", json={"version": "1.1.0", "reason": "ä"}, headers=sent)
    assert answer.headers["x-request-id"] == "ward-7.42"
    (result,) = control.requests
    assert {name: value for name, value in result.headers.items() if name not in ("accept", "content-length")} == {
        "host": "radserve",
        "content-type": "application/json",
        "x-request-id": "ward-7.42",
        "x-key-name": "test-manage",
    }
    assert result.body == '{"version":"1.1.0","reason":"ä"}'.encode()
    client.get("/audit", headers={"X-Request-Id": 'x" y'})
    assert len(control.requests[-1].headers["x-request-id"]) == 32


def test_documents_above_a_megabyte_are_rejected(managed: tuple[Proxy, Control], client: httpx.Client) -> None:
    _, control = managed
    for body in (b"x" * (1 << 20), iter([b"x" * 1000] * 1000)):
        assert client.put("/deployment", content=body, headers={"Content-Type": "application/yaml"}).status_code == 200
        assert control.requests[-1].headers["content-type"] == "application/yaml"
    assert "1048576 bytes" in problem(client.put("/deployment", content=b"x" * (1 << 20) + b"x"), 413)
    assert [len(result.body) for result in control.requests] == [1 << 20, 1000000]


def test_management_without_a_supervisor_is_502(server: Server, keys: Keys, tmp_path: Path) -> None:
    with (
        proxies.running_proxy(server, tmp_path / "runtime", keys, tmp_path, None) as proxy,
        proxy.client("manage", proxy.management_url) as client,
    ):
        problem(client.get("/versions"), 502)
