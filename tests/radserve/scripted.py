"""HTTP server that follows a script, for responses that a healthy server never gives."""

import base64
import hashlib
import io
import json
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

SHA256 = "a" * 64


@dataclass(frozen=True)
class Request:
    """Request that the server received."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"


@dataclass(frozen=True)
class Reply:
    """Response to send; `announced` is the Content-Length if it is not the true one."""

    status: int = 200
    body: bytes = b""
    media_type: str | None = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None


Script = Callable[[Request], Reply]


class Scripted(ThreadingHTTPServer):
    """Server on loopback or on a unix socket; `requests` has every request except those for /live.

    Attributes
    ----------
    live
        Response to /live; 404 by default, as TorchServe has no such path.
    probes
        Number of requests for /live.
    """

    daemon_threads = True
    request_queue_size = 128  # the default of five overflows with clients that do not pause between attempts
    script: Script

    def __init__(self, path: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.live = Reply(404, b'{"code": 404}')
        self.probes = 0
        self.script = answer
        if path is None:
            super().__init__(("127.0.0.1", 0), _Handler)
        else:
            self.address_family = socket.AF_UNIX
            super().__init__(str(path), _Local)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        """Bind without resolving a host name for a unix socket."""
        if self.address_family == socket.AF_UNIX:
            socketserver.TCPServer.server_bind(self)
        else:
            super().server_bind()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; some tests do that on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def say(self, *replies: Reply) -> None:
        """Send these replies in turn, then healthy responses."""
        left = iter(replies)
        self.script = lambda request: next(left, None) or answer(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Scripted

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.path, dict(self.headers), body, self.command)
        if self.command == "GET" and self.path.endswith("/live"):
            self.server.probes += 1
            reply = self.server.live
        else:
            self.server.requests.append(request)
            reply = self.server.script(request)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.media_type:
            self.send_header("Content-Type", reply.media_type)
        self.send_header("Content-Length", str(len(reply.body) if reply.announced is None else reply.announced))
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = reply.announced is not None

    do_GET = do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815  # http.server wants these names

    def log_message(self, *_: object) -> None:
        pass


class _Local(_Handler):
    disable_nagle_algorithm = False  # a unix socket has none


def prediction(image: bytes, /, **changes: Any) -> dict[str, Any]:
    """Return a valid classification of an image, with changes; `...` removes a key."""
    valid = {
        "model": {"name": "chest", "version": "1.0.0", "sha256": SHA256},
        "label": "normal",
        "probability": 0.75,
        "probabilities": {"normal": 0.75, "pneumonia": 0.25},
        "positive": False,
        "threshold": 0.5,
        "image": {"format": "png", "width": 20, "height": 10, "sha256": hashlib.sha256(image).hexdigest()},
    }
    return {key: value for key, value in (valid | changes).items() if value is not ...}


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file."""
    stream = io.BytesIO()
    Pillow.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture(pixels: NDArray[np.uint8], /, **changes: Any) -> dict[str, Any]:
    """Return a PNG as part of a document, with changes."""
    height, width = pixels.shape[:2]
    valid = {"encoding": "png", "width": width, "height": height, "data": base64.b64encode(png(pixels)).decode()}
    return {key: value for key, value in (valid | changes).items() if value is not ...}


def marked(left: int = 3, top: int = 2, width: int = 5, height: int = 4) -> NDArray[np.uint8]:
    """Return a mask of 20 x 10 pixels with one rectangle."""
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[top : top + height, left : left + width] = 255
    return mask


def segmentation(image: bytes, /, **changes: Any) -> dict[str, Any]:
    """Return a valid segmentation of an image, with changes."""
    shown = prediction(image)["image"] | {"spacing": [0.5, 2.0]}
    valid = {
        "model": {"name": "glioma", "version": "1.0.0", "sha256": SHA256},
        "label": "tumour",
        "positive": True,
        "threshold": 0.5,
        "area": {"pixels": 20, "fraction": 0.1, "mm2": 20.0},
        "box": {"left": 3, "top": 2, "width": 5, "height": 4},
        "mask": picture(marked()),
        "image": shown,
    }
    return {key: value for key, value in (valid | changes).items() if value is not ...}


def empty(image: bytes) -> dict[str, Any]:
    """Return a segmentation with an empty mask."""
    nothing = {"area": {"pixels": 0, "fraction": 0.0, "mm2": 0.0}, "box": None, "mask": picture(marked(width=0))}
    return segmentation(image, label="background", positive=False, **nothing)


def explanation(image: bytes, /, **changes: Any) -> dict[str, Any]:
    """Return a valid explanation, with changes to its heat map."""
    heat = {"method": "grad-cam", "label": "normal", "empty": False} | picture(marked() // 2)
    valid = {key: value for key, value in (heat | changes).items() if value is not ...}
    return prediction(image) | {"explanation": valid}


def document(content: object, status: int = 200, media_type: str = "application/json") -> Reply:
    """Reply with JSON."""
    return Reply(status, json.dumps(content).encode(), media_type)


def problem(status: int, title: str, detail: str) -> Reply:
    """Reply with problem details."""
    return document({"status": status, "title": title, "detail": detail}, status, "application/problem+json")


def answer(request: Request) -> Reply:
    """Reply as a healthy server does; an image that begins with `bad` is rejected.

    The model `glioma` is a segmentation model, every other one a classifier.
    """
    masks = "/glioma" in request.path
    if request.headers.get("Content-Type") == "application/json":
        images = [base64.b64decode(item["b64"]) for item in json.loads(request.body)["instances"]]
        answers = [_instance(image, masks=masks) for image in images]
        return document({"predictions": answers} | (volume(answers) if masks else {}))
    if request.body.startswith(b"bad"):
        return problem(400, "Unreadable image", "It is bad.")
    if request.headers.get("Accept", "").startswith("image/png"):
        return Reply(200, png(np.stack([marked()] * 3, axis=2)), "image/png")
    if "/explanations/" in request.path:
        return document(explanation(request.body))
    return document(_instance(request.body, masks=masks))


def volume(answers: list[dict[str, Any]], /, **changes: Any) -> dict[str, Any]:
    """Return the volume of valid results, with changes."""
    pixels = [item["area"]["pixels"] for item in answers if "area" in item]
    valid = {"slices": len(answers), "positive_slices": sum(map(bool, pixels)), "pixels": sum(pixels)}
    known = {"ml": sum(pixels) / 1000} if len(pixels) == len(answers) else {"reason": "No volume: rejected."}
    return {"volume": {key: value for key, value in (valid | known | changes).items() if value is not ...}}


def _instance(image: bytes, *, masks: bool) -> dict[str, Any]:
    if image.startswith(b"bad"):
        return {"status": 400, "title": "Unreadable image", "detail": "It is bad."}
    if image.startswith(b"empty"):
        return empty(image)
    return segmentation(image) if masks else prediction(image)


@contextmanager
def scripted(path: Path | None = None) -> Iterator[Scripted]:
    """Run a scripted server."""
    with Scripted(path) as server, in_thread(server):
        yield server


@contextmanager
def in_thread(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in a thread."""
    # The default polls every half a second for the end, which delays every test.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
