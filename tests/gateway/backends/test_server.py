"""Requests to the model server, and the problems that its failures become."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import free_ports
from gateway.backends.base import ModelRequest
from gateway.backends.server import ServerBackend
from gateway.errors import (
    BadGatewayError,
    GatewayTimeoutError,
    NotFoundError,
    ProblemError,
    SettingsError,
    UnavailableError,
)
from gateway.settings import Settings
from tests.gateway.fake_backend import CATALOG
from tests.radserve.scripted import Reply, Request, Scripted, document, scripted

QUESTION = ModelRequest("predictions", "chest", "1.0.0", b"film", "image/png", request_id="r1", client="ward-7")


def run(url: str, do: Callable[[ServerBackend], Awaitable[Any]], **chosen: Any) -> Any:
    """Run a function with a backend."""

    async def with_backend() -> Any:
        backend = ServerBackend(Settings.read(server=url, supervisor=url, **chosen))
        try:
            return await do(backend)
        finally:
            await backend.close()

    return asyncio.run(with_backend())


def ask(url: str, **chosen: Any) -> Any:
    return run(url, lambda backend: backend.infer(QUESTION), **chosen)


def test_request_uses_torchserve_path_and_server_key() -> None:
    with scripted() as server:
        server.script = lambda _: Reply(503, b"no", "text/plain", {"Retry-After": "3"})
        reply = ask(server.url, server_key="k1")
        (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/predictions/chest/1.0.0", b"film")
    assert request.headers["authorization" if "authorization" in request.headers else "Authorization"] == "Bearer k1"
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (headers["content-type"], headers["x-request-id"], headers["x-client-id"]) == ("image/png", "r1", "ward-7")
    assert (reply.status, reply.body, reply.media_type, reply.retry_after) == (503, b"no", "text/plain", "3")


def test_unreachable_server_is_bad_gateway() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BadGatewayError, match="unreachable"):
        ask(f"http://127.0.0.1:{port}")


def test_timeout_returns_504() -> None:
    with scripted() as server:

        def late(_: Request) -> Reply:
            time.sleep(0.5)
            return Reply()

        server.script = late
        with pytest.raises(GatewayTimeoutError, match=r"within 0.2 s"):
            ask(server.url, timeout=0.2)


def test_truncated_response_returns_502() -> None:
    with scripted() as server:
        server.script = lambda _: Reply(body=b"{", announced=40)
        with pytest.raises(BadGatewayError, match="closed the connection"):
            ask(server.url)


def told(server: Scripted) -> None:
    def script(request: Request) -> Reply:
        if request.path == "/catalog":
            return document(CATALOG)
        if request.path == "/catalog/chest/1.0.0/card":
            return Reply(200, b"# Card", "text/markdown")
        if request.path == "/catalog/chest/1.0.0/sample":
            return Reply(200, b"png", "application/octet-stream")
        return Reply(404)

    server.script = script


def test_catalog_is_cached() -> None:
    async def twice(backend: ServerBackend) -> Any:
        await backend.catalog()
        return await backend.catalog()

    with scripted() as server:
        told(server)
        catalog = run(server.url, twice)
        assert len(server.requests) == 1
    ((version,),) = (model.versions for model in catalog.models if model.name == "chest")
    assert (version.version, version.labels) == ("1.0.0", ("normal", "pneumonia"))


def test_card_and_sample_come_from_supervisor() -> None:
    with scripted() as server:
        told(server)
        assert run(server.url, lambda backend: backend.card("chest", "1.0.0")) == "# Card"
        assert run(server.url, lambda backend: backend.sample("chest", "1.0.0")) == b"png"
        with pytest.raises(NotFoundError):
            run(server.url, lambda backend: backend.card("knee", "1.0.0"))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(503), UnavailableError),
        (Reply(500), BadGatewayError),
        (Reply(200, b"{}"), BadGatewayError),
    ],
)
def test_invalid_catalog_is_an_error(reply: Reply, kind: type[ProblemError]) -> None:
    with scripted() as server:
        server.script = lambda _: reply
        with pytest.raises(kind):
            run(server.url, lambda backend: backend.catalog())


def test_readiness_comes_from_supervisor() -> None:
    with scripted() as server:
        server.script = lambda _: document({"state": "ready", "detail": "x"})
        assert run(server.url, lambda backend: backend.ready()) is None
        server.script = lambda _: document({"state": "starting", "detail": "TorchServe is starting."}, 503)
        assert run(server.url, lambda backend: backend.ready()) == "TorchServe is starting."
        server.script = lambda _: Reply(404)
        assert "status 404" in run(server.url, lambda backend: backend.ready())
    (port,) = free_ports(1)
    assert "unreachable" in run(f"http://127.0.0.1:{port}", lambda backend: backend.ready())


def test_unreachable_server_returns_502_quickly() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.raises((BadGatewayError, GatewayTimeoutError)):
            ask(f"http://127.0.0.1:{port}", timeout=0.3)


def test_invalid_certificate_authority_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no")
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_SERVER_CA"):
        ServerBackend(Settings.read(server_ca=tmp_path / "ca.pem"))
