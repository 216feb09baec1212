"""A web server for a store's folder, with ranges and ETags."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.authority import Pair
from tests.radserve.scripted import in_thread

Fault = Callable[[str], int | str | None]


class WebServer(ThreadingHTTPServer):
    """Serves a folder.

    Attributes
    ----------
    fault
        Called with each path; returns a status code, `cut` for half of the body, a URL to redirect to, or None.
    ranges
        Whether the server supports ranges.
    requests
        Path and range of each request.
    authorizations
        Authorization headers of the requests that had one.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.fault: Fault = lambda _: None
        self.ranges = True
        self.requests: list[tuple[str, str]] = []
        self.authorizations: list[str] = []

    def fail(self, *faults: int | str | None) -> None:
        """Apply these faults to the next requests, one each."""
        remaining = iter(faults)
        self.fault = lambda _: next(remaining, None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_GET(self) -> None:
        requested = self.headers.get("Range", "")
        self.server.requests.append((self.path, requested))
        if "Authorization" in self.headers:
            self.server.authorizations.append(self.headers["Authorization"])
        fault = self.server.fault(self.path)
        if isinstance(fault, int):
            return self._respond(fault, b"")
        if fault is not None and fault != "cut":
            return self._respond(302, b"", Location=fault)
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            return self._respond(404, b"")
        data = path.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.headers.get("If-Match", tag) != tag:
            return self._respond(412, b"")
        if requested and self.server.ranges:
            start = int(requested.removeprefix("bytes=").partition("-")[0])  # the end is always that of the file
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._respond(206, data[start:], cut=fault == "cut", ETag=tag, Content_Range=span)
        return self._respond(200, data, cut=fault == "cut", ETag=tag)

    def _respond(self, status: int, data: bytes, *, cut: bool = False, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(folder: Path, tls: Pair | None = None) -> Iterator[WebServer]:
    """Serve a folder on loopback."""
    with WebServer(folder) as server:
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(tls.certificate, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        with in_thread(server):
            yield server
