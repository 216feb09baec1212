"""A backend with scripted responses, without a server."""

import base64
import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image as Pillow

from gateway.backends.base import ModelRequest, ModelResponse, unknown_model
from handlers import request_body
from handlers.dicom.multi_frame import Frame
from handlers.errors import RequestError
from handlers.formats.raw import RawSamples
from handlers.request_body import BodyLimits
from radserve.schema.catalog import Catalog

SHA256 = "a" * 64
CATALOG: dict[str, Any] = {
    "models": [
        {
            "name": "chest",
            "versions": [
                {
                    "version": "1.0.0",
                    "sha256": SHA256,
                    "share": 100,
                    "task": "classification",
                    "title": "Pneumonia",
                    "labels": ["normal", "pneumonia"],
                    "positive": "pneumonia",
                    "threshold": 0.5,
                    "explains": True,
                    "input": {"color": "gray", "height": 112, "width": 160},
                    "trained_on": "radiographs",
                    "licence": "none",
                }
            ],
        }
    ]
}


def prediction(image: bytes, /, **changes: Any) -> dict[str, Any]:
    """Return a valid prediction for an image, changed; `...` removes a key."""
    document = {
        "model": {"name": "chest", "version": "1.0.0", "sha256": SHA256},
        "label": "normal",
        "probability": 0.75,
        "probabilities": {"normal": 0.75, "pneumonia": 0.25},
        "positive": False,
        "threshold": 0.5,
        "image": {"format": "png", "width": 20, "height": 10, "sha256": hashlib.sha256(image).hexdigest()},
    }
    return {key: value for key, value in (document | changes).items() if value is not ...}


def json_response(document: Any, status: int = 200, media_type: str = "application/json") -> ModelResponse:
    """Return a JSON response."""
    return ModelResponse(status, media_type, json.dumps(document).encode())


def respond(request: ModelRequest) -> ModelResponse:
    """Return a valid prediction or explanation of each image, which are read as a worker reads them."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        body = request_body.read({"body": request.body}, headers, BodyLimits())
    except RequestError as error:
        return json_response(_rejection(error), error.status, "application/problem+json")
    model = {"name": request.model, "version": request.version or "1.0.0", "sha256": SHA256}
    entries: list[dict[str, Any]] = []
    for image in body.images:
        if isinstance(image, RequestError):
            entries.append(_rejection(image))
            continue
        if isinstance(image, Frame):
            entry = prediction(image.source.data, model=model)
            entries.append(entry | {"image": entry["image"] | {"frame": image.number}})
            continue
        entry = prediction(image.data if isinstance(image, RawSamples) else image, model=model)
        entries.append(_explained(entry) if request.verb == "explanations" else entry)
    if body.names:
        entries = [{"name": name} | entry for name, entry in zip(body.names, entries, strict=True)]
    return json_response({"predictions": entries} if body.several else entries[0])


def _rejection(error: RequestError) -> dict[str, Any]:
    return {"status": error.status, "title": error.title, "detail": str(error)}


def _explained(document: dict[str, Any]) -> dict[str, Any]:
    stream = BytesIO()
    Pillow.new("L", (20, 10)).save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    heat_map = {"encoding": "png", "width": 20, "height": 10, "data": data}
    return document | {"explanation": heat_map | {"method": "grad-cam", "label": document["label"], "empty": True}}


class FakeBackend:
    """Responds as a script says, and records the requests."""

    def __init__(self, script: Callable[[ModelRequest], ModelResponse] | None = None) -> None:
        self.requests: list[ModelRequest] = []
        self.script = script or respond
        self.problem: str | None = None

    async def infer(self, request: ModelRequest) -> ModelResponse:
        self.requests.append(request)
        return self.script(request)

    async def catalog(self) -> Catalog:
        return Catalog.model_validate(CATALOG)

    async def card(self, name: str, version: str) -> str:
        if (name, version) != ("chest", "1.0.0"):
            raise unknown_model()
        return "---\nlicense: unknown\n---\n\n# Chest\n\n| a | b |\n|---|---|\n| 1 | <script>x</script> |\n"

    async def sample(self, name: str, version: str) -> bytes:
        if (name, version) != ("chest", "1.0.0"):
            raise unknown_model()
        return b"\x89PNG sample"

    async def ready(self) -> str | None:
        return self.problem

    async def close(self) -> None:
        pass
