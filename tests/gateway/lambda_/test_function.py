"""The Lambda function with the runtime interface client, documented events and a real TorchServe."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.lambda_ import events
from tests.gateway.lambda_.events import SHAPES, content, header
from tests.gateway.lambda_.runtime import FunctionError, Runtime, function
from tests.proxy import Keys
from tests.radserve.scripted import Reply, Scripted, scripted
from tests.repack import FILM, NAME
from tests.server import Server

PATH = f"/api/predictions/{NAME}"


@pytest.fixture(scope="module")
def lambda_function(server: Server, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Run one instance of the function in front of `server` for all tests."""
    environment = {
        "RADSERVE_GATEWAY_SERVER": server.url,
        "RADSERVE_GATEWAY_SUPERVISOR": server.health_url,
        "RADSERVE_GATEWAY_KEYS": str(keys.file),
    }
    with function(tmp_path_factory.mktemp("function"), environment) as lambda_function:
        yield lambda_function


@pytest.fixture(scope="module")
def key(keys: Keys) -> dict[str, str]:
    return {"Authorization": f"Bearer {keys.texts['predict']}"}


shapes = pytest.mark.parametrize("shape", SHAPES)


@pytest.mark.e2e
@shapes
def test_binary_body_works_with_every_event_source(lambda_function: Runtime, key: dict[str, str], shape: str) -> None:
    headers = key | {"Content-Type": "image/png", "X-Filename": "film.png"}
    answer = lambda_function.invoke(SHAPES[shape]("POST", PATH, FILM, headers))
    assert answer["statusCode"] == 200, answer
    assert answer["isBase64Encoded"] is False
    document = json.loads(content(answer))
    assert (document["label"], document["history"], document["filename"]) == ("pneumonia", "off", "film.png")
    assert header(answer, "x-content-type-options") == "nosniff"


@pytest.mark.e2e
@shapes
def test_text_body_works_and_picture_is_base64(lambda_function: Runtime, key: dict[str, str], shape: str) -> None:
    body = json.dumps({"image": base64.b64encode(FILM).decode()}).encode()
    headers = key | {"Content-Type": "application/json", "Accept": "image/png"}
    answer = lambda_function.invoke(SHAPES[shape]("POST", f"/api/explanations/{NAME}/1.0.0", body, headers))
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    assert header(answer, "content-type") == "image/png"
    assert content(answer).startswith(b"\x89PNG")


@pytest.mark.e2e
@shapes
def test_problem_is_sent_as_text(lambda_function: Runtime, key: dict[str, str], shape: str) -> None:
    answer = lambda_function.invoke(SHAPES[shape]("POST", PATH, b"hello", key | {"Content-Type": "image/png"}))
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (415, False)
    assert header(answer, "content-type") == "application/problem+json"
    assert "detail" in json.loads(content(answer))


@pytest.mark.e2e
@shapes
def test_form_and_query_arrive(lambda_function: Runtime, key: dict[str, str], shape: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%d.png"\r\n\r\n' + FILM + b"\r\n"
    form = part.replace(b"%d", b"1") + part.replace(b"%d", b"2") + b"--b--\r\n"
    answer = lambda_function.invoke(
        SHAPES[shape]("POST", PATH, form, key | {"Content-Type": "multipart/form-data; boundary=b"})
    )
    assert [item["filename"] for item in json.loads(content(answer))["predictions"]] == ["1.png", "2.png"]
    answer = lambda_function.invoke(
        SHAPES[shape]("GET", "/api/results", b"", key, query="since=yesterday%20night&limit=2")
    )
    document = json.loads(content(answer))
    assert (document["status"], "query since" in document["detail"]) == (422, True)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "event",
    [
        events.http("GET", "/live", stage="prod"),
        events.http("GET", "/live", stage="prod", route="ANY /{proxy+}"),
        events.http("GET", "/live", stage="live"),
        events.rest("GET", "/live", base="/mapped"),
        events.rest("GET", "/live", headers={"Host": "[::1]:80", "X-Forwarded-Port": "443, none"}),
        events.rest("GET", "/live") | {"headers": None, "multiValueHeaders": None},  # the console's test button
    ],
)
def test_path_prefix_is_stripped(lambda_function: Runtime, event: events.Event) -> None:
    answer = lambda_function.invoke(event)
    assert (answer["statusCode"], json.loads(content(answer))["state"]) == (200, "live"), answer


@pytest.mark.e2e
def test_request_id_is_lambdas_and_invalid_key_returns_401(lambda_function: Runtime, key: dict[str, str]) -> None:
    answer = lambda_function.invoke(events.url("GET", "/api/models", b"", key))
    assert json.loads(content(answer))["models"][0]["name"] == NAME
    assert len(header(answer, "x-request-id")) == 36


@pytest.mark.e2e
def test_page_is_served(lambda_function: Runtime) -> None:
    answer = lambda_function.invoke(events.url("GET", "/"))
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
    assert header(answer, "content-type").startswith("text/html")


def variables(keys: Keys, url: str, **chosen: str) -> dict[str, str]:
    command = {"server": url, "supervisor": url, "keys": str(keys.file)} | chosen
    return {f"RADSERVE_GATEWAY_{name.upper()}": value for name, value in command.items()}


def wait(reply: Reply, seconds: float) -> Reply:
    time.sleep(seconds)
    return reply


@pytest.fixture
def behind() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


def test_server_failures_are_distinguished_before_lambda_timeout(
    behind: Scripted, keys: Keys, key: dict[str, str], tmp_path: Path
) -> None:
    event = events.url("POST", PATH, FILM, key)
    with function(tmp_path, variables(keys, behind.url)) as lambda_function:
        behind.script = lambda _: Reply(503, b"{}", "application/json", {"Retry-After": "7"})
        busy = lambda_function.invoke(event)
        assert (busy["statusCode"], header(busy, "retry-after")) == (503, "7")
        behind.script = lambda _: Reply(200, b"<html>")
        assert lambda_function.invoke(event)["statusCode"] == 502
        behind.script = lambda _: wait(Reply(200, b"{}"), 2.5)
        begin = time.monotonic()
        late = lambda_function.invoke(event, seconds=2.0)  # one second is reserved for the response
        assert time.monotonic() - begin < 1.9
        assert late["statusCode"] == 504
        document = json.loads(content(late))
        assert "time limit of this function" in document["detail"]
        assert document["request_id"] == header(late, "x-request-id")
        assert header(late, "content-security-policy")
        behind.script = lambda _: Reply(503, b"{}")
        assert lambda_function.invoke(event)["statusCode"] == 503  # the next event works


def test_lambda_size_limits_return_problems(behind: Scripted, keys: Keys, key: dict[str, str], tmp_path: Path) -> None:
    with function(tmp_path, variables(keys, behind.url, uploads="s3://bucket/uploads")) as lambda_function:
        large = lambda_function.invoke(events.url("POST", PATH, b"\0" * 4_600_000, key | {"Content-Type": "image/png"}))
        document = json.loads(content(large))
        assert (large["statusCode"], document["status"]) == (413, 413)
        assert "/api/uploads" in document["detail"]
        picture = b"\x89PNG" + bytes(5_000_000)
        behind.script = lambda _: Reply(200, picture, "image/png")
        answer = lambda_function.invoke(events.url("POST", PATH, FILM, key))
        document = json.loads(content(answer))
        assert (answer["statusCode"], document["title"]) == (413, "Response too large")
        assert "6666672 bytes" in document["detail"]
        behind.script = lambda _: Reply(200, picture[:1_000_000], "image/png")
        assert lambda_function.invoke(events.url("POST", PATH, FILM, key))["statusCode"] == 200
        assert (
            lambda_function.invoke(events.alb("POST", PATH, FILM, key))["statusCode"] == 413
        )  # a load balancer accepts 1 MB


def test_in_process_model_needs_no_server(store: Path, keys: Keys, key: dict[str, str], tmp_path: Path) -> None:
    environment = variables(keys, "http://127.0.0.1:9", archive=str(store / f"{NAME}-1.0.0.mar"))
    with function(tmp_path, environment) as lambda_function:
        answer = lambda_function.invoke(events.url("POST", PATH, FILM, key))
        assert json.loads(content(answer))["label"] == "pneumonia"
        assert json.loads(content(lambda_function.invoke(events.url("GET", "/ready"))))["state"] == "ready"


def test_log_is_json_without_keys_images_and_names(
    behind: Scripted, keys: Keys, key: dict[str, str], tmp_path: Path
) -> None:
    behind.script = lambda _: Reply(503, b"{}")
    with function(tmp_path, variables(keys, behind.url)) as lambda_function:
        headers = key | {"Content-Type": "image/png", "X-Filename": "Doe^Jane.png"}
        lambda_function.invoke(events.rest("POST", PATH, FILM, headers))
        lambda_function.invoke(events.rest("POST", PATH, FILM, headers, query="patient=Doe"))
    lines = [json.loads(line) for line in lambda_function.log.splitlines()]
    for status in (503, 422):  # the query has an unknown parameter
        assert any(f"POST {PATH} {status}" in line["message"] for line in lines)
    secret = key["Authorization"].rpartition("_")[2]
    for word in ("Doe", secret, base64.b64encode(FILM)[:40].decode()):
        assert word not in lambda_function.log


def test_one_instance_reuses_its_connection(
    behind: Scripted, keys: Keys, key: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Any] = []
    process_request = behind.process_request

    def counted(request: Any, address: Any) -> None:
        connections.append(address)
        process_request(request, address)

    monkeypatch.setattr(behind, "process_request", counted)
    behind.script = lambda _: Reply(503, b"{}")
    with function(tmp_path, variables(keys, behind.url)) as lambda_function:
        for _ in range(3):
            lambda_function.invoke(events.http("POST", PATH, FILM, key))
    assert (len(behind.requests), len(connections)) == (3, 1)


def test_function_without_keys_does_not_start(tmp_path: Path) -> None:
    with (
        function(tmp_path, {}) as lambda_function,
        pytest.raises(FunctionError, match=r"RADSERVE_GATEWAY_KEYS is not set"),
    ):
        lambda_function.response()


def test_non_http_event_is_a_function_error(keys: Keys, tmp_path: Path) -> None:
    with (
        function(tmp_path, variables(keys, "http://127.0.0.1:9")) as lambda_function,
        pytest.raises(FunctionError, match="unable to infer a handler"),
    ):
        lambda_function.invoke({"source": "aws.events"})
