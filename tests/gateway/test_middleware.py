"""Middleware: body limits, headers, log."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from gateway import problems
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history import Page, Query
from gateway.history.sqlite import SqliteHistory
from gateway.metrics import REGISTRY
from gateway.middleware import BodySizeLimit, HeadRequests, RequestContext
from gateway.settings import Settings
from tests.gateway.application import client, gateway, running_client, services
from tests.gateway.fake_backend import FakeBackend

SMALL = Settings.read(history="none", max_bytes=2048, max_files=3, origins=("https://app.example",))
FORM = "multipart/form-data; boundary=x"
SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "headers": [], "scheme": "http"} | {
    "query_string": b"",
    "root_path": "",
    "http_version": "1.1",
    "server": ("127.0.0.1", 80),
    "client": ("127.0.0.1", 1),
}


def ask(method: str, path: str, app: FastAPI | None = None, **options: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(app or gateway(settings=SMALL)) as http:
            return await http.request(method, path, **options)

    return asyncio.run(send())


async def chunked(content: bytes, size: int = 500) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def problem(response: httpx.Response, status: int) -> str:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    assert response.headers["x-request-id"] == response.json()["request_id"]
    return str(response.json()["detail"])


def part(name: str, content: bytes, *headers: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"; filename="f.png"', *headers]
    return b"--x\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize("kind", ["", "application/json", FORM])
@pytest.mark.parametrize("known", [True, False])
def test_too_large_body_returns_413(kind: str, known: bool) -> None:
    content = part("file", b"x" * 4000) + b"--x--" if kind == FORM else b"x" * 4000
    sent = content if known else chunked(content)
    response = ask("POST", "/api/predictions/some", content=sent, headers={"Content-Type": kind})
    assert "2048 bytes" in problem(response, 413)


def test_route_with_fastapi_body_returns_413() -> None:
    app = gateway(settings=SMALL)

    @app.post("/read")
    async def read(document: dict[str, str]) -> dict[str, str]:
        return document

    response = ask("POST", "/read", app, content=chunked(b"x" * 4000), headers={"Content-Type": "application/json"})
    assert "2048 bytes" in problem(response, 413)


def test_body_within_limit_arrives_complete() -> None:
    backend = FakeBackend()
    content = bytes(range(256)) * 8
    response = ask("POST", "/api/predictions/some", gateway(settings=SMALL, backend=backend), content=chunked(content))
    assert response.status_code == 200
    assert [question.body for question in backend.requests] == [content]


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (part("file", b"x") * 4 + b"--x--", 413, "more than 3 files"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 17 + b"--x--", 400, "Invalid form"),
        (part("file", b"x", *(f"X-{number}: y" for number in range(40))) + b"--x--", 400, "Invalid form"),
        (b"--x\r\nContent-Disposition: form-data; name=" + b"a" * 1500 + b"\r\n\r\nb\r\n--x--", 400, "form"),
        (b"no form at all", 400, "form"),
        (b"--x--", 400, "no file"),
        (b"", 400, "no file"),
    ],
)
def test_form_limits_and_broken_forms_return_problems(content: bytes, status: int, message: str) -> None:
    response = ask("POST", "/api/predictions/some", content=content, headers={"Content-Type": FORM})
    assert message in problem(response, status)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 300])
def test_form_without_valid_boundary_returns_400(kind: str) -> None:
    problem(ask("POST", "/api/predictions/some", content=b"x", headers={"Content-Type": kind}), 400)


def test_deeply_nested_document_returns_400() -> None:
    content = b"[" * 100_000
    app = gateway(settings=Settings.read(history="none"))
    response = ask(
        "POST", "/api/predictions/some", app, content=content[:8000], headers={"Content-Type": "application/json"}
    )
    assert "nested" in problem(response, 400)
    passed = ask("POST", "/api/predictions/some", app, content=content, headers={"Content-Type": "application/json"})
    assert "base64" in problem(passed, 400)  # longer than a reference, so the model server reads it


@pytest.mark.parametrize("name", ["Accept", "Content-Type", "Content-Encoding", "X-Client-Id"])
def test_invalid_header_characters_return_400(name: str) -> None:
    for value in ("imag\u00e9/png".encode("latin-1"), "imag\u00e9/png".encode()):
        problem(ask("POST", "/api/predictions/some", content=b"x", headers={name: value}), 400)
    form = part("file", b"x", "Content-Type: imag\u00e9/png") + b"--x--"
    problem(ask("POST", "/api/predictions/some", content=form, headers={"Content-Type": FORM}), 400)


class Receiving:
    """ASGI client that sends a body slowly."""

    def __init__(self, *pieces: tuple[float, bytes, bool]) -> None:
        self.pieces = list(pieces)

    async def __call__(self) -> dict[str, Any]:
        if not self.pieces:
            await asyncio.sleep(0.3)
            return {"type": "http.disconnect"}
        seconds, body, more = self.pieces.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": body, "more_body": more}


def slow(receive: Any, **bounds: float) -> int:
    app = FastAPI()
    problems.install(app)
    app.add_middleware(BodySizeLimit, max_bytes=2048, advice="", **{"chunk_seconds": 1.0, "body_seconds": 5.0} | bounds)

    @app.post("/whole")
    async def whole(request: Request) -> int:
        await request.body()
        await asyncio.wait_for(request.receive(), 1)  # waits for the disconnect
        return 1

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    run: Any = app(SCOPE | {"path": "/whole"}, receive, send)
    asyncio.run(run)
    return int(sent[0]["status"])


def test_stalled_or_slow_body_returns_408() -> None:
    assert slow(Receiving((0.0, b"a", True), (0.5, b"b", False)), chunk_seconds=0.05) == 408
    assert slow(Receiving(*[(0.02, b"a", True)] * 20), chunk_seconds=0.1, body_seconds=0.1) == 408
    assert slow(Receiving((0.0, b"a", True), (0.0, b"b", False)), chunk_seconds=0.1) == 200


def test_every_response_has_security_headers() -> None:
    for path in ("/", "/live", "/api/models", "/nowhere", "/api/results"):
        headers = ask("GET", path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in headers
    assert ask("GET", "/api/models").headers["cache-control"] == "no-store"


def test_https_response_has_hsts() -> None:
    assert ask("GET", "https://127.0.0.1/live").headers["strict-transport-security"].startswith("max-age=")


def test_cors_allows_configured_origin_only() -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,content-type"}
    path = "/api/predictions/some"
    allowed = ask("OPTIONS", path, headers={"Origin": "https://app.example"} | wanted)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert "access-control-allow-credentials" not in allowed.headers
    other = ask("OPTIONS", path, headers={"Origin": "https://evil.example"} | wanted)
    assert "access-control-allow-origin" not in other.headers
    assert "'https://evil.example' may not use this API; add the origin to RADSERVE_GATEWAY_ORIGINS" in problem(
        other, 403
    )
    response = ask("POST", path, content=b"x" * 4000, headers={"Origin": "https://app.example"})
    assert response.status_code == 413
    assert response.headers["access-control-allow-origin"] == "https://app.example"  # lets the page read the problem
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]


def test_cors_is_off_by_default() -> None:
    origin = {"Origin": "https://app.example"}
    response = ask("GET", "/api/models", gateway(), headers=origin)
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = ask("OPTIONS", "/api/models", gateway(), headers=origin | {"Access-Control-Request-Method": "GET"})
    assert "RADSERVE_GATEWAY_ORIGINS" in problem(preflight, 403)
    assert "access-control-allow-origin" not in preflight.headers


def test_cors_names_the_methods_and_headers_that_pages_may_use() -> None:
    wanted = {"Origin": "https://app.example", "Access-Control-Request-Method": "PATCH"}
    detail = problem(ask("OPTIONS", "/api/models", headers=wanted), 403)
    assert "GET, POST, PUT, DELETE" in detail
    assert "X-API-Key" in detail


@pytest.mark.parametrize(
    "path",
    [
        "/live",
        "/ready",
        "/metrics",
        "/api/models",
        "/api/models/chest/1.0.0/card",
        "/api/models/chest/1.0.0/sample",
        "/api/openapi.json",
        "/api/results",
        "/api/docs",
        "/v2",
        "/v2/models/chest",
        "/",
        "/js/main.js",
    ],
)
def test_head_answers_as_get_without_content(path: str) -> None:
    head, get = sent("HEAD", path), sent("GET", path)
    assert head[0]["status"] == get[0]["status"]
    names = [name for name, _ in head[0]["headers"] if name != b"x-request-id"]
    assert names == [name for name, _ in get[0]["headers"] if name != b"x-request-id"]
    assert b"".join(message.get("body", b"") for message in head[1:]) == b""
    assert any(message.get("body") for message in get[1:])


def test_head_of_a_stream_ends_with_its_first_part() -> None:
    produced, messages = [], []

    async def stream() -> AsyncIterator[bytes]:
        for number in range(3):
            produced.append(number)
            yield b"line"

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    for method, parts in (("HEAD", [0]), ("GET", [0, 1, 2])):
        produced.clear()
        messages.clear()
        scope = SCOPE | {"method": method, "asgi": {"spec_version": "2.4"}}
        asyncio.run(HeadRequests(StreamingResponse(stream()))(scope, receive, send))
        assert produced == parts
        assert [message["type"] for message in messages[:2]] == ["http.response.start", "http.response.body"]
        assert not messages[-1].get("more_body", False)
    assert b"".join(message.get("body", b"") for message in messages) == b"linelineline"


def test_head_of_an_export_reads_one_page(tmp_path: Path) -> None:
    history = Counting(tmp_path / "history.sqlite3")

    async def work() -> None:
        async with running_client(services(history=history)) as http:
            for name in ("GET", "HEAD"):
                history.pages = 0
                response = await http.request(name, "/api/results.csv")
                assert response.status_code == 200
                assert response.headers["content-disposition"] == 'attachment; filename="results.csv"'
                assert bool(response.content) is (name == "GET")
                assert history.pages == {"GET": 3, "HEAD": 1}[name]

    asyncio.run(work())


class Counting(SqliteHistory):
    """An empty history whose search has three pages."""

    pages = 0

    async def find(self, query: Query) -> Page:
        self.pages += 1
        page = await super().find(query.model_copy(update={"cursor": None}))
        return page.model_copy(update={"next": "next" if self.pages < 3 else None})


def sent(method: str, path: str) -> list[Any]:
    """Return the ASGI messages of a response; clients and servers would drop the content of HEAD themselves."""
    messages: list[Any] = []
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if not requests:
            await asyncio.Event().wait()  # the client stays connected
        return requests.pop()

    async def send(message: Any) -> None:
        messages.append(message)

    scope = SCOPE | {"method": method, "path": path, "headers": [(b"host", b"127.0.0.1")]}
    asyncio.run(gateway()(scope, receive, send))
    return messages


def test_head_is_counted_under_its_route() -> None:
    labels = {"route": "/api/models", "method": "HEAD", "status": "200"}
    before = REGISTRY.get_sample_value("radserve_gateway_requests_total", labels) or 0.0
    ask("HEAD", "/api/models")
    assert REGISTRY.get_sample_value("radserve_gateway_requests_total", labels) == before + 1


def test_unexpected_exception_is_logged_and_rendered(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeBackend):
        async def infer(self, request: ModelRequest) -> ModelResponse:
            raise ZeroDivisionError("secret")

    response = ask("POST", "/api/predictions/some", gateway(backend=Broken()), content=b"x")
    assert "its log has the details" in problem(response, 500)
    assert "secret" not in response.text
    assert "content-security-policy" in response.headers
    assert [record.levelname for record in caplog.records if response.headers["x-request-id"] in record.getMessage()]


def test_probes_are_logged_when_their_status_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")

    class Faulty(FakeBackend):
        async def ready(self) -> str | None:
            if self.problem == "fault":
                raise ZeroDivisionError
            return await super().ready()

    backend = Faulty()
    app = gateway(settings=SMALL, backend=backend)

    async def poll() -> None:
        async with client(app) as http:
            start, down, fault = ["TorchServe is starting."] * 16, ["It is down."] * 16, ["fault"] * 2
            for backend.problem in (*start, *[None] * 16, *down, None, *fault, None):
                await http.get("/ready")
                await http.get("/live")

    asyncio.run(poll())
    messages = [record.getMessage() for record in caplog.records if record.name == "gateway.access"]
    logged = [line.partition(" in ")[0] for line in messages if line.startswith("GET")]
    statuses = ["503", "200", "503", "200", "500", "500", "200"]
    assert logged == [f"GET /ready {status}" for status in statuses]


def test_disconnected_client_is_not_logged_as_failure(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")

    async def left(*_: Any) -> None:
        raise ClientDisconnect

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(RequestContext(left)(SCOPE | {}, nothing, nothing))
    assert "POST / 499 in" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/predictions/some", "POST, PUT"),
        ("PUT", "/api/predictions/some/files", "POST"),
        ("GET", "/api/predictions/some/1.0.0/files", "POST"),
        ("POST", "/api/models", "GET, HEAD"),
        ("PUT", "/live", "GET, HEAD"),
        ("PATCH", "/api/results/01234567-0123-7123-8123-0123456789ab", "DELETE, GET, HEAD"),
    ],
)
def test_unsupported_method_returns_405_with_allow(method: str, path: str, allow: str) -> None:
    response = ask(method, path)
    assert "/api/openapi.json" in problem(response, 405)
    assert response.headers["allow"] == allow


def test_head_needs_get() -> None:
    response = ask("HEAD", "/api/predictions/some")
    assert (response.status_code, response.headers["allow"]) == (405, "POST, PUT")


def test_unknown_path_returns_404_with_hint() -> None:
    assert "/api/openapi.json" in problem(ask("GET", "/api/nothing"), 404)
    assert "/api/predictions/{name}" in ask("GET", "/api/openapi.json").json()["paths"]


def test_other_connection_types_pass() -> None:
    seen: list[str] = []

    async def app(scope: Any, *_: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(RequestContext(BodySizeLimit(app, 1, ""))({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
