"""moto's S3 as a separate process with injected faults: `python -m tests.radserve.store.moto_server PORT`.

`POST /faults` replaces the faults and clears the recorded requests; `GET /requests` lists the requests since then.
Three checks of S3 are added, which moto lacks: conditional writes of the index are atomic, a part with a wrong checksum
is rejected, and uploads by form must match their policy (post_policy.py).
"""

import base64
import hashlib
import io
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto import settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.wrappers import Response

from tests.radserve.store.post_policy import Posts

Environ = dict[str, Any]
Start = Callable[..., Any]

_ERROR = "<Error><Code>{code}</Code><Message>made by a test</Message></Error>"


class Fault:
    """A fault that affects some requests.

    Attributes
    ----------
    method, path
        Regular expressions for the affected requests.
    do
        A status code, `reset` (close the connection), `cut` (send half of the body), `spoil` (change one byte), `wait`
        (delay by `seconds`), `stall` (pause for `seconds` in the middle of the body).
    every
        Affect every n-th of them.
    times
        Maximum number of affected requests.
    """

    def __init__(
        self, do: str, method: str = ".*", path: str = "", every: int = 1, times: int = 10**9, seconds: float = 0
    ) -> None:
        self.do = do
        self.seconds = seconds
        self._method, self._path, self._every, self._times = method, path, every, times
        self._seen = 0

    def happens(self, method: str, path: str) -> bool:
        if not (re.fullmatch(self._method, method) and re.search(self._path, path)) or self._times == 0:
            return False
        self._seen += 1
        if self._seen % self._every:
            return False
        self._times -= 1
        return True


class Faulty:
    """Adds faults to moto."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._faults: list[Fault] = []
        self._requests: list[dict[str, str]] = []
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/faults":
            faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            with self._lock:
                self._faults, self._requests = [Fault(**item) for item in faults], []
            return Response("")(environ, start)
        if path == "/requests":
            return Response(json.dumps(self._requests))(environ, start)
        with self._lock:
            query, range_ = environ.get("QUERY_STRING", ""), environ.get("HTTP_RANGE", "")
            self._requests.append({"method": method, "path": path, "query": query, "range": range_})
            fault = next((item for item in self._faults if item.happens(method, path)), None)
        return self._respond(fault, environ, start)

    def _respond(self, fault: Fault | None, environ: Environ, start: Start) -> Iterable[bytes]:
        do = fault.do if fault else ""
        if do.isdigit():
            code = {"403": "AccessDenied", "500": "InternalError", "503": "SlowDown"}.get(do, "Odd")
            return Response(_ERROR.format(code=code), int(do), content_type="application/xml")(environ, start)
        if do == "reset":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return Response("")(environ, start)
        if do == "wait":
            assert fault is not None
            time.sleep(fault.seconds)
        if environ["REQUEST_METHOD"] == "PUT" and "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            if base64.b64encode(hashlib.sha256(body).digest()).decode() != environ["HTTP_X_AMZ_CHECKSUM_SHA256"]:
                return Response(_ERROR.format(code="BadDigest"), 400, content_type="application/xml")(environ, start)
            environ["wsgi.input"] = io.BytesIO(body)
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].endswith("index.json"):
            with self._write_lock:
                return list(self._app(environ, start))
        if do == "stall":
            assert fault is not None
            return _stalled(b"".join(self._app(environ, start)), fault.seconds)
        if do not in ("cut", "spoil"):
            return self._app(environ, start)  # type: ignore[no-any-return]
        response = Response.from_app(self._app, environ)
        data, size = response.get_data(), response.headers["Content-Length"]
        middle = len(data) // 2
        response.set_data(
            data[:middle] if do == "cut" else data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        )
        response.headers["Content-Length"] = size
        return response(environ, start)


def _stalled(data: bytes, seconds: float) -> Iterator[bytes]:
    yield data[: len(data) // 2]
    time.sleep(seconds)
    yield data[len(data) // 2 :]


if __name__ == "__main__":
    settings.S3_UPLOAD_PART_MIN_SIZE = 1  # 5 MiB as in S3 would make tests slow
    app = Faulty(Posts(DomainDispatcherApplication(create_backend_app)))
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
