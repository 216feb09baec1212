"""Lambda runtime API (2018-06-01) on loopback, and a process with the runtime interface client."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.server import ROOT

API = "/2018-06-01/runtime"
LIMIT = 6 * 1024 * 1024
"""Limit of a response in bytes; above it Lambda reports RequestEntityTooLarge."""
HANDLER = "gateway.lambda_.handler.handler"


class FunctionError(Exception):
    """The function reported an error at its start or for an event."""


class Runtime:
    """Provides events and receives responses; `log` is the output of the function."""

    def __init__(self) -> None:
        self.log = ""
        self._events: queue.Queue[tuple[str, dict[str, Any], float]] = queue.Queue()
        self._responses: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._gone = threading.Event()

    def invoke(self, event: dict[str, Any], seconds: float = 29.0) -> dict[str, Any]:
        """Provide an event with a time limit; return the response, or raise FunctionError."""
        self._events.put((str(uuid.uuid4()), event, seconds))
        return self.response(seconds)

    def response(self, seconds: float = 29.0) -> dict[str, Any]:
        """Wait for the next response."""
        try:
            kind, document = self._responses.get(timeout=seconds)
        except queue.Empty:
            raise FunctionError("timed out: Lambda would kill the function now") from None
        if kind != "response":
            raise FunctionError(f"{kind}: {document}")
        assert isinstance(document, dict)
        return document

    def next(self) -> tuple[str, dict[str, Any], float] | None:
        """Wait for an event; None at the end."""
        while not self._gone.is_set():
            try:
                return self._events.get(timeout=0.05)
            except queue.Empty:
                continue
        return None

    def take(self, kind: str, body: bytes) -> None:
        """Receive a response."""
        self._responses.put((kind, json.loads(body)))

    def end(self) -> None:
        """Release the threads that wait for an event."""
        self._gone.set()


class _Api(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Api

    def do_GET(self) -> None:
        assert self.path == f"{API}/invocation/next"
        result = self.server.runtime.next()
        if result is None:
            self._send(410, b"", {})
            return
        identity, event, seconds = result
        headers = {
            "Lambda-Runtime-Aws-Request-Id": identity,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:radserve",
        }
        self._send(200, json.dumps(event).encode(), headers)

    def do_POST(self) -> None:
        body = self._body()
        if len(body) > LIMIT:
            self._send(413, b'{"errorType": "RequestEntityTooLarge"}', {})
            self.server.runtime.take("error", b'"RequestEntityTooLarge"')
            return
        kind = "init" if self.path.endswith("/init/error") else self.path.rpartition("/")[2]
        self._send(202, b'{"status": "OK"}', {})
        self.server.runtime.take(kind, body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - the parent's word
        pass


@contextmanager
def served() -> Iterator[tuple[Runtime, str]]:
    """Serve the API; yields it with its address, the value of AWS_LAMBDA_RUNTIME_API."""
    runtime = Runtime()
    with _Api(runtime) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield runtime, f"127.0.0.1:{server.server_port}"
        finally:
            runtime.end()
            server.shutdown()


@contextmanager
def function(
    folder: Path, environment: Mapping[str, str], *, root: Path = ROOT, command: tuple[str, ...] = ()
) -> Iterator[Runtime]:
    """Run the function in a process with the runtime interface client.

    Parameters
    ----------
    folder
        Where its log is kept.
    root
        The unpacked package, from which Lambda starts it.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RADSERVE_", "PYTHON", "AWS_"))}
    arguments = command or (sys.executable, "-m", "awslambdaric")
    with served() as (runtime, address), (folder / "log").open("w+") as log:
        variables = clean | {"AWS_LAMBDA_RUNTIME_API": address, "LAMBDA_TASK_ROOT": str(root), **environment}
        process = subprocess.Popen([*arguments, HANDLER], cwd=root, env=variables, stdout=log, stderr=log)
        try:
            yield runtime
        finally:
            process.kill()
            process.wait()
            runtime.log = (folder / "log").read_text()
