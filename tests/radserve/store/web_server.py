"""A web server that shows a store's folder: with ranges and ETags, as most do."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.authority import Pair

Fault = Callable[[str], int | str | None]


class WebServer(ThreadingHTTPServer):
    """Shows a folder.

    Attributes
    ----------
    fault
        Called with each path; a status to answer with, `cut` for half of the body, a URL to redirect to, or None.
    ranges
        Whether it knows ranges.
    requests
        Path and range of each request.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.fault: Fault = lambda _: None
        self.ranges = True
        self.requests: list[tuple[str, str]] = []

    def say(self, *faults: int | str | None) -> None:
        """Fail like this in turn, then no more."""
        left = iter(faults)
        self.fault = lambda _: next(left, None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self.server.requests.append((self.path, asked))
        fault = self.server.fault(self.path)
        if isinstance(fault, int):
            return self._answer(fault, b"")
        if fault is not None and fault != "cut":
            return self._answer(302, b"", Location=fault)
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            return self._answer(404, b"")
        data = path.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.headers.get("If-Match", tag) != tag:
            return self._answer(412, b"")
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._answer(206, data[start:], cut=fault == "cut", ETag=tag, Content_Range=span)
        return self._answer(200, data, cut=fault == "cut", ETag=tag)

    def _answer(self, status: int, data: bytes, *, cut: bool = False, **headers: str) -> None:
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
def shown(folder: Path, tls: Pair | None = None) -> Iterator[WebServer]:
    """Show a folder on loopback."""
    with WebServer(folder) as server:
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(tls.certificate, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
