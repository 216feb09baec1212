"""Web server on the loopback interface from which tests fetch images."""

import gzip
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from tests.authority import Authority

SECRET = "what a private host says"


class Host(http.server.BaseHTTPRequestHandler):
    """Web server that responds by path and records request headers."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[dict[str, str]]] = []
    release: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        Host.seen.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        name, _, rest = self.path.strip("/").partition("/")
        if name == "to":
            self._send(302, b"", {"Location": f"https://{rest}" if rest else "", "Set-Cookie": "a=b"})
        elif name == "turn":
            self._send(302, b"", {"Location": f"/turn/{int(rest) - 1}" if int(rest) else "/image.png"})
        elif name == "slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x")
            self.wfile.flush()
            Host.release.wait(5)
        elif name == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.close_connection = True
        else:
            self._send(*self._answer(name))

    def _answer(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        fixed: dict[str, tuple[int, bytes, dict[str, str]]] = {
            "packed": (200, gzip.compress(b"x" * 10_000), {"Content-Encoding": "gzip"}),
            "large": (200, b"", {"Content-Length": "999999999"}),
            "missing": (404, SECRET.encode(), {}),
            "empty": (200, b"", {}),
        }
        return fixed.get(name, (200, b"an image at " + self.path.encode(), {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running(authority: Authority) -> Iterator[int]:
    """Run the web server with a certificate for localhost."""
    pair = authority.issue("images")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Ignore disconnected clients."""

    server = Quiet(("127.0.0.1", 0), Host)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    Host.release.set()
    server.shutdown()
    thread.join()
    server.server_close()
