"""Closed loops against a server on a unix socket."""

import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.load import Image


class Closing(BaseHTTPRequestHandler):
    """Answers one request on each connection."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("requests", [1, 3])
def test_closed_connection_is_opened_again_to_the_same_socket(requests: int, tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Closing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        connection = load.connect(f"unix:{path}")
        try:
            for _ in range(requests):
                load.post(connection, "/predictions/a", Image("a", b"x"))
        finally:
            connection.close()
            server.shutdown()
            thread.join()
