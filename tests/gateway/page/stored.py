"""A gateway in this process with a history, images, and a backend whose versions can retire."""

import base64
import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image as Pillow

from gateway.app import assemble
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history.recorder import create
from gateway.settings import Settings
from radserve.schema.catalog import Catalog
from tests.gateway.application import services, serving
from tests.gateway.fake_backend import FakeBackend, json_response, prediction
from tests.gateway.page.scripted import catalog
from tests.handlers.images import saved

PROBABILITIES = {"0.9.0": 0.41, "1.0.0": 0.62, "2.0.0": 0.72}
CUTOFFS = {"0.9.0": 0.5, "1.0.0": 0.5, "2.0.0": 0.65}


class VersionedBackend(FakeBackend):
    """Serves versions of a chest model and an outline; `retired` ones are missing in the catalog only."""

    def __init__(self) -> None:
        super().__init__(_respond)
        self.retired: set[str] = set()

    async def catalog(self) -> Catalog:
        document = catalog()
        (chest,) = (model for model in document["models"] if model["name"] == "chest")
        (first,) = chest["versions"]
        chest["versions"] = [
            copy.deepcopy(first) | {"version": version, "threshold": CUTOFFS[version], "share": share}
            for version, share in (("1.0.0", 100), ("0.9.0", 0), ("2.0.0", 0))
            if version not in self.retired
        ]
        return Catalog.model_validate(document)


def _respond(request: ModelRequest) -> ModelResponse:
    if "image/png" in request.accept:
        return ModelResponse(200, "image/png", saved(Pillow.open(BytesIO(_image(request))).convert("L"), "PNG"))
    if request.media_type == "application/json":
        return _slices(request)
    image = _image(request)
    width, height = Pillow.open(BytesIO(image)).size
    model = {"name": request.model, "version": request.version or "1.0.0", "sha256": "a" * 64}
    described = {"format": "png", "width": width, "height": height, "sha256": hashlib.sha256(image).hexdigest()}
    if request.model == "slices":
        return json_response(_outline(model, described))
    positive = PROBABILITIES[model["version"]]
    threshold = CUTOFFS[model["version"]]
    label = "pneumonia" if positive >= threshold else "normal"
    probabilities = {"normal": 1 - positive, "pneumonia": positive}
    document = prediction(b"", model=model, image=described, label=label, probabilities=probabilities)
    document |= {"probability": probabilities[label], "positive": label == "pneumonia", "threshold": threshold}
    document |= {"prevalence": 0.5, "assurances": {"age": 4}}
    if request.verb == "explanations":
        rows, columns = np.mgrid[0:height, 0:width]
        distance = np.hypot(rows - 0.6 * height, columns - 0.3 * width) / (0.25 * height)
        heat = np.asarray(255 * np.exp(-(distance**2)), np.uint8)
        document |= {"explanation": _png(heat) | {"method": "grad-cam", "label": label, "empty": False}}
    return json_response(document)


def _slices(request: ModelRequest) -> ModelResponse:
    """Return the outlines of several images, in order; those that are no pictures are rejected."""
    items = []
    for instance in json.loads(request.body)["instances"]:
        image = base64.b64decode(instance["b64"].rpartition(",")[2])
        if image.startswith((b"\x89PNG", b"II*")):
            item = json.loads(_respond(replace(request, body=image, media_type="")).body)
            if "area" in item:
                item["image"]["spacing"] = [1.0, 1.0]
                item["area"]["mm2"] = float(item["area"]["pixels"])
            items.append(item)
        else:
            items.append({"status": 415, "title": "Unsupported media type", "detail": "No image."})
    if request.model != "slices":
        return json_response({"predictions": items})
    volume = {"slices": len(items), "positive_slices": len(items), "pixels": 1}
    outlined = all("label" in item for item in items)
    missing = {"reason": f"No volume: 1 of {len(items)} slices have no mask."}
    return json_response({"predictions": items, "volume": volume | ({"ml": 12.5} if outlined else missing)})


def _outline(model: dict[str, str], image: dict[str, Any]) -> dict[str, Any]:
    mask = np.zeros((image["height"], image["width"]), np.uint8)
    top, left, height, width = image["height"] // 4, image["width"] // 4, image["height"] // 3, image["width"] // 5
    mask[top : top + height, left : left + width] = 255
    fraction = float((mask > 0).mean())
    decided: dict[str, Any] = {"label": "tumour", "positive": True, "threshold": 0.5}
    area = {"pixels": height * width, "fraction": fraction, "mm2": None}
    box = {"left": left, "top": top, "width": width, "height": height}
    return {"model": model, "image": image, "mask": _png(mask), "area": area, "box": box} | decided


def _png(pixels: np.typing.NDArray[np.uint8]) -> dict[str, Any]:
    data = base64.b64encode(saved(pixels, "PNG")).decode()
    return {"encoding": "png", "width": pixels.shape[1], "height": pixels.shape[0], "data": data}


def _image(request: ModelRequest) -> bytes:
    """Return the image of a form or of a raw body."""
    if not request.media_type.startswith("multipart/"):
        return request.body
    content = request.body.split(b"\r\n\r\n", 1)[1]
    return content[: content.rindex(b"\r\n--")]


@dataclass(frozen=True)
class Stored:
    """A running gateway."""

    url: str
    backend: VersionedBackend

    def send(self, image: bytes, path: str, verb: str = "predictions", name: str = "film.png") -> str:
        """Send an image to a model, and return the id of the result."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            response = client.post(f"/api/{verb}/{path}", content=image, headers={"X-Filename": name})
        assert response.json()["history"] == "kept"
        identity = response.json()["id"]
        assert isinstance(identity, str)
        return identity

    def send_together(self, *images: bytes, model: str = "slices") -> list[dict[str, Any]]:
        """Send images in one request, and return their predictions."""
        instances = [{"b64": base64.b64encode(image).decode()} for image in images]
        with httpx.Client(base_url=self.url, timeout=60) as client:
            response = client.post(f"/api/predictions/{model}/1.0.0", json={"instances": instances})
        assert response.json()["history"] == "kept"
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        return predictions


@contextmanager
def stored(folder: Path, **settings: Any) -> Iterator[Stored]:
    """Serve the page with a history in a folder."""
    backend = VersionedBackend()
    values = {"history": f"sqlite:{folder / 'history.sqlite3'}", "keep_names": True} | settings
    parsed = Settings.read(**values)
    app = assemble(replace(services(backend, parsed), recorder=create(parsed)))
    with serving(app) as address:
        yield Stored(f"http://{address}", backend)
