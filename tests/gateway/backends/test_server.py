"""Requests to the model server, and the problems that its failures become."""

import asyncio
import gzip
import itertools
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import free_ports
from gateway.backends.base import MAX_RESPONSE, ModelRequest
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
from tests.server import ROOT

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


@dataclass
class Stream:
    """Server that sends a header, then the same chunk for ever; `sent` counts the bytes that its client took."""

    url: str
    sent: int = 0


@contextmanager
def streaming(header: bytes, chunk: bytes, pause: float = 0.0) -> Iterator[Stream]:
    """Run a server that responds to one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = Stream(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def respond() -> None:
            with listener.accept()[0] as connection, suppress(OSError):
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + header + b"\r\n\r\n")
                for _ in itertools.takewhile(lambda _: stream.sent < 16 * MAX_RESPONSE, itertools.count()):
                    connection.sendall(chunk)
                    stream.sent += len(chunk)
                    time.sleep(pause)

        thread = threading.Thread(target=respond)
        thread.start()
        try:
            yield stream
        finally:
            thread.join()


CHUNK = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"


@pytest.mark.parametrize("verb", ["infer", "catalog", "sample"])
@pytest.mark.parametrize("header", [b"Transfer-Encoding: chunked", b"Content-Length: 2469606195", b"Connection: close"])
def test_response_above_limit_is_not_read(header: bytes, verb: str) -> None:
    calls: dict[str, Callable[[ServerBackend], Awaitable[Any]]] = {
        "infer": lambda backend: backend.infer(QUESTION),
        "catalog": lambda backend: backend.catalog(),
        "sample": lambda backend: backend.sample("chest", "1.0.0"),
    }
    with streaming(header, CHUNK) as stream, pytest.raises(BadGatewayError, match=r"exceeds \d+ bytes"):
        run(stream.url, calls[verb])
    assert stream.sent < 1.5 * MAX_RESPONSE  # what the sockets buffer comes on top


def test_limit_is_that_of_the_server() -> None:
    lines = (ROOT / "config.properties").read_text(encoding="utf-8").splitlines()
    assert f"max_response_size={MAX_RESPONSE}" in lines


def test_response_that_trickles_times_out() -> None:
    with (
        streaming(b"Transfer-Encoding: chunked", b"1\r\nx\r\n", pause=0.05) as stream,
        pytest.raises(GatewayTimeoutError, match=r"within 0.4 s"),
    ):
        ask(stream.url, timeout=0.4)


def test_compressed_response_is_not_inflated() -> None:
    with scripted() as server:
        server.script = lambda _: Reply(body=gzip.compress(b" " * 100_000), headers={"Content-Encoding": "gzip"})
        with pytest.raises(BadGatewayError, match="compressed"):
            ask(server.url)
        headers = {name.lower(): value for name, value in server.requests[0].headers.items()}
        assert headers["accept-encoding"] == "identity"


def test_header_fields_of_a_picture_are_passed_on_if_they_are_printable() -> None:
    fields = {"X-Domain": "strict; unusual", "X-Repair": "\u00fc", "X-Other": "1"}
    with scripted() as server:
        server.script = lambda _: Reply(200, b"\x89PNG", "image/png", fields)
        assert ask(server.url).headers == {"X-Domain": "strict; unusual"}


def test_retry_after_other_than_seconds_is_dropped() -> None:
    with scripted() as server:
        server.script = lambda _: Reply(503, b"", headers={"Retry-After": "soon"})
        assert ask(server.url).retry_after == ""


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"detail": ' * 300, b"[" + b"0," * 300_000 + b"0]", b"\xff"])
def test_hostile_document_of_supervisor_is_an_error(body: bytes) -> None:
    with scripted() as server:
        server.script = lambda _: Reply(500, body)
        assert "status 500" in run(server.url, lambda backend: backend.ready())
        server.script = lambda _: Reply(200, body)
        with pytest.raises(BadGatewayError, match="invalid catalog"):
            run(server.url, lambda backend: backend.catalog())


def test_reason_of_supervisor_is_short() -> None:
    with scripted() as server:
        server.script = lambda _: document({"detail": "x" * 100_000}, 503)
        assert len(run(server.url, lambda backend: backend.ready())) <= 1000


@pytest.mark.parametrize(
    ("verb", "media_type"), [("catalog", "text/html"), ("card", "text/html"), ("sample", "text/html"), ("card", "")]
)
def test_other_media_type_of_supervisor_is_an_error(verb: str, media_type: str) -> None:
    with scripted() as server:
        server.script = lambda _: Reply(200, b"<p>Sign in</p>", media_type)
        arguments = () if verb == "catalog" else ("chest", "1.0.0")
        with pytest.raises(BadGatewayError, match="media type"):
            run(server.url, lambda backend: getattr(backend, verb)(*arguments))


def serve_catalog(server: Scripted) -> None:
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
        serve_catalog(server)
        catalog = run(server.url, twice)
        assert len(server.requests) == 1
    ((version,),) = (model.versions for model in catalog.models if model.name == "chest")
    assert (version.version, version.labels) == ("1.0.0", ("normal", "pneumonia"))


def test_card_and_sample_come_from_supervisor() -> None:
    with scripted() as server:
        serve_catalog(server)
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
