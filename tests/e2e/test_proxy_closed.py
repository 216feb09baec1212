"""Paths that the proxy keeps closed."""

import httpx
import pytest

from radserve.auth.api_keys import Role
from tests.proxy import Proxy, answered, problem
from tests.repack import FILM, NAME

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"


CLOSED = [
    "/",
    "/ping",
    "/metrics",
    "/auth",
    "/problem",
    "/shadow",
    f"/shadow/{NAME}",
    "/token?type=management",
    "/api-description",
    "/invocations",
    "/workflows",
    "/workflows?url=http://127.0.0.1:9/evil.war",
    "/wfpredict/x",
    f"/v1/models/{NAME}:predict",
    f"/v2/models/{NAME}/infer",
    f"/models/{NAME}/invoke",
    "/models?url=http://127.0.0.1:9/evil.mar",
    f"/models/{NAME}?customized=true",
    f"/models/{NAME}?custom%69zed=true",
    f"/models/{NAME}?min_worker=1&url=x",
    "/models?url=chest.war",
    "/models?url=../chest.mar",
    "/models?url=..%2fchest.mar",
    "/models?url=/chest.mar",
    "/models?url=.chest.mar",
    "/models?url=chest.mar&url=chest.mar",
    "/models?url=chest.mar&handler=x",
    "/models?url=chest.mar&model_name=x",
    "/models?initial_workers=1",
    "/versions/",
    "/versions?limit=1",
    "/versions/../models",
    f"/versions/{NAME}/",
    f"/versions/{NAME}/latest",
    f"/versions/{NAME}/1.0.0?workers=2",
    f"/versions/{NAME}/1.0.0?force=maybe",
    f"/versions/{NAME}/1.0.0/promote?force=true",
    f"/versions/{NAME}/promote",
    f"/versions/{NAME}/rollback?reason=x",
    f"/rollouts/{NAME}/1.0.0",
    f"/rollouts/{NAME}?force=true",
    f"/rollouts/{NAME}?reason=%zz",
    "/rollouts?limit=1",
    "/deployment/",
    "/deployment/apply",
    "/deployment?force=true",
    "/audit?limit=x",
    "/audit?limit=-1",
    "/audit/1",
    "/predictions",
    "/predictions/",
    "/predictions/../models",
    "/predictions/%2e%2e/models",
    "/predictions/..%2fmodels",
    f"/predictions/x/..;/{NAME}",
    f"//predictions/{NAME}",
    f"/predictions//{NAME}",
    f"/./predictions/{NAME}",
    f"/x/../predictions/{NAME}",
    f"/%70redictions/{NAME}",
    f"/predictions/{NAME}/",
    f"/predictions/{NAME}%2f1.0.0",
    f"/predictions/{NAME}/1.0.0/extra",
    f"/predictions/{NAME}%00",
    f"/predictions/{NAME}%0d%0aX: y",
    f"/Predictions/{NAME}",
    "/metrics/../models",
    "/metrics/other",
    "/ready/../models",
    "/catalog/",
    "/catalog?name=x",
    f"/catalog/{NAME}",
    f"/catalog/{NAME}/1.0.0",
    f"/catalog/{NAME}/1.0.0/program",
    f"/catalog/{NAME}/1.0.0/card/",
    f"/catalog/{NAME}/1.0.0/card?x=1",
    f"/catalog/{NAME}/../card",
    f"/catalog/{NAME}/%2e%2e/card",
    "/.git/config",
]


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("port", ["url", "management_url", "metrics_url"])
def test_all_other_paths_are_closed_on_every_port(proxy: Proxy, port: str, path: str) -> None:
    allowed = {"url": "predict", "management_url": "manage", "metrics_url": "read"}[port]
    for method in ("GET", "POST", "PUT", "DELETE"):
        with proxy.connect(getattr(proxy, port)) as connection:
            head = f"X-API-Key: {proxy.keys.texts[allowed]}\r\nContent-Length: {len(FILM)}\r\n\r\n"
            line = f"{method} {path.replace(' ', '%20')} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            connection.sendall((line + head).encode() + FILM)
            status, document = answered(connection)
        # nginx itself calls some of these unreadable.
        assert status == 404 or (status == 400 and "%00" in path), (method, status)
        assert document["status"] == status


@pytest.mark.parametrize(
    ("port", "path"),
    [
        ("url", "/models"),
        ("url", f"/models/{NAME}"),
        ("url", "/metrics/torchserve"),
        ("management_url", PATH),
        ("management_url", "/ready"),
        ("metrics_url", PATH),
        ("metrics_url", "/models"),
        ("url", "/versions"),
        ("url", "/deployment"),
        ("metrics_url", "/rollouts"),
        ("metrics_url", "/audit"),
        ("management_url", "/catalog"),
        ("metrics_url", "/catalog"),
    ],
)
def test_a_path_is_open_on_its_own_port_only(proxy: Proxy, port: str, path: str) -> None:
    for role in Role:
        with proxy.client(role, getattr(proxy, port)) as client:
            problem(client.get(path), 404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_models_accept_post_and_put_only(client: httpx.Client, method: str) -> None:
    response = client.request(method, PATH)
    assert response.status_code == 405
    if method not in ("HEAD", "TRACE"):  # TRACE is refused before the path is looked at
        assert problem(response, 405) == "This path accepts POST, PUT only."
        assert response.headers["allow"] == "POST, PUT"


def test_health_needs_no_key(proxy: Proxy) -> None:
    with proxy.client(None) as anonymous:
        assert anonymous.get("/ready").json()["state"] == "ready"
        assert anonymous.get("/live").status_code == 200
        problem(anonymous.post("/ready"), 405)
