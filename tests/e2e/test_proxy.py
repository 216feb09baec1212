"""nginx in front of a real TorchServe: keys, roles and access log."""

import re
import stat
import time
from pathlib import Path

import httpx
import pytest

from radserve.auth import key_file
from radserve.auth.api_keys import Role
from tests.proxy import Keys, Proxy, await_text, problem
from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"


def test_a_key_gets_the_response_of_torchserve(client: httpx.Client, server: Server) -> None:
    wanted = httpx.post(server.url + PATH, content=FILM, timeout=30).json()
    answer = client.post(PATH, content=FILM)
    assert answer.status_code == 200
    assert answer.json() == wanted
    assert client.put(f"{PATH}/{wanted['model']['version']}", content=FILM).json() == wanted
    explained = client.post(f"/explanations/{NAME}", content=FILM).json()
    assert explained["explanation"]["method"] == "grad-cam"


def test_both_headers_accept_a_key(proxy: Proxy, keys: Keys) -> None:
    with proxy.client(None) as anonymous:
        for headers in ({"X-API-Key": keys.texts["predict"]}, {"authorization": f"bearer {keys.texts['predict']}"}):
            assert anonymous.post(PATH, content=FILM, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "letmein"},
        {"X-API-Key": "radserve_" + "0" * 12 + "_" + "0" * 64},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer radserve_" + "0" * 12 + "_" + "0" * 64},
    ],
)
def test_requests_without_a_valid_key_are_rejected(proxy: Proxy, headers: dict[str, str]) -> None:
    with proxy.client(None) as anonymous:
        response = anonymous.post(PATH, content=FILM, headers=headers)
    assert "radserve keys create" in problem(response, 401)
    assert response.headers.get_list("www-authenticate") == ["Bearer"]


@pytest.mark.parametrize("role", ["read", "manage"])
def test_a_key_without_the_role_is_rejected_with_the_required_role(proxy: Proxy, role: str) -> None:
    with proxy.client(role) as other:
        assert "role 'predict'" in problem(other.post(PATH, content=FILM), 403)


@pytest.mark.parametrize(("role", "status"), [("read", 200), ("predict", 403), ("manage", 403), (None, 401)])
def test_metrics_need_the_role_read(proxy: Proxy, role: str | None, status: int) -> None:
    with proxy.client(role, proxy.metrics_url) as client:
        torchserve, supervisor = client.get("/metrics/torchserve?name[]=x"), client.get("/metrics/supervisor")
    assert (torchserve.status_code, supervisor.status_code) == (status, status)
    if status == 200:
        assert "ts_inference_requests_total" in torchserve.text
        assert "radserve_ready 1.0" in supervisor.text


def test_the_access_log_has_a_json_line_without_the_query(proxy: Proxy, client: httpx.Client, server: Server) -> None:
    sent = client.post(PATH, content=FILM, params={"patient": "Jane Doe"}, headers={"X-Request-Id": "ward-7.42"})
    assert sent.headers["x-request-id"] == "ward-7.42"
    line = proxy.line(sent)
    assert line["method"] == "POST"
    assert (line["path"], line["status"], line["tls"]) == (PATH, 200, "TLSv1.3")
    assert line["version"] == "1.0.0"
    await_text(server.log, '"request_id":"ward-7.42"')  # TorchServe may write its line after its response
    (access,) = [record for record in server.log_lines() if record.get("request_id") == "ward-7.42"]
    assert access["message"].split('"')[1] == f"POST {PATH}/1.0.0 HTTP/1.1"
    assert line["key_name"] == "test-predict"
    assert line["key_id"] in proxy.keys.texts["predict"]
    assert 0 < line["upstream_seconds"] <= line["seconds"] + 0.002  # both are rounded
    assert line["bytes_in"] > len(FILM)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    refused = client.get("/nothing/here", params={"patient": "Jane Doe"}, headers={"X-Request-Id": 'x" y'})
    assert re.fullmatch("[0-9a-f]{32}", refused.headers["x-request-id"])
    line = proxy.line(refused)
    assert (line["method"], line["path"], line["status"], line["upstream_seconds"]) == (
        "GET",
        "/nothing/here",
        404,
        None,
    )
    written = proxy.access_log.read_text() + proxy.log.read_text()
    assert "Jane" not in written
    assert not [text for text in proxy.keys.texts.values() if text[-64:] in written]


def test_no_key_is_written_to_disk(proxy: Proxy, client: httpx.Client, runtime: Path) -> None:
    assert client.post(PATH, content=FILM).status_code == 200
    secrets = [text[-64:].encode() for text in proxy.keys.texts.values()]
    for path in runtime.rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_bytes()], path
    cached = [path for path in Path("/dev/shm").glob("radserve-*") if path.is_dir()]
    assert cached
    assert {stat.S_IMODE(path.stat().st_mode) for path in cached} == {0o700}


def test_a_cached_key_is_not_checked_again(proxy: Proxy, client: httpx.Client) -> None:
    def checks() -> float:
        with proxy.client("read", proxy.metrics_url) as reader:
            text = reader.get("/metrics/supervisor").text
        return sum(map(float, re.findall(r"^radserve_auth_decisions_total\{.*\} (\S+)$", text, re.MULTILINE)))

    client.post(PATH, content=FILM)
    before = checks()
    for _ in range(30):
        assert client.post(PATH, content=FILM).status_code == 200
    assert checks() - before <= 10


def test_a_revoked_key_is_rejected_within_ten_seconds(proxy: Proxy) -> None:
    text = key_file.create(proxy.keys.file, "leaver", [Role.PREDICT])
    with proxy.client(None) as client:
        client.headers["X-API-Key"] = text
        await_status(client, 200)
        key_file.revoke(proxy.keys.file, "leaver")
        await_status(client, 401)


def await_status(client: httpx.Client, status: int) -> None:
    deadline = time.monotonic() + 10
    while (code := client.post(PATH, content=FILM).status_code) != status:
        assert time.monotonic() < deadline, code
        time.sleep(0.1)
