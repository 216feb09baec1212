"""Slices of a synthetic examination, and a scripted server that measures them as a real one does."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from playwright.sync_api import Route
from pydicom import uid

from handlers import volume
from handlers.errors import RequestError
from handlers.formats.decode import decode
from handlers.formats.image import Image
from handlers.png import embedded, plain, png
from handlers.response import problem_details
from handlers.volume import Slice
from tests.gateway.fake_backend import SHA256, prediction
from tests.handlers.images import Pixels, dicom

SERIES = "1.2.826.0.1.3680043.8.498.7"
SIZE = 64
MARK = 3000
"""Stored value of the pixels that the scripted server marks."""


def slice_pixels(place: float, radius: float = 20.0) -> Pixels:
    """Return a head of noise with a bright ball around the middle of the stack, cut at a place in mm."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    head = np.hypot(rows, columns) < 0.42 * SIZE
    grain = np.random.default_rng(int(place) % 97).integers(0, 200, (SIZE, SIZE))
    pixels = np.where(head, 900 + grain, 40).astype(np.uint16)
    inside = radius**2 - (place - 40) ** 2
    pixels[np.hypot(rows - 5, columns + 6) < np.sqrt(max(inside, 0)) * 0.5] = MARK
    return pixels


def slice_dicom(place: float, number: int, syntax: uid.UID = uid.ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """Return a slice of 1 x 1 mm pixels at a place in mm along the axis of the body; `attributes` override."""
    described: dict[str, Any] = {
        "Modality": "MR",
        "SeriesInstanceUID": SERIES,
        "SOPInstanceUID": f"{SERIES}.{number}",
        "InstanceNumber": number,
        "ImagePositionPatient": [-32, -32, place],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1.0, 1.0],
        "SliceThickness": 4,
        "WindowCenter": 1600,
        "WindowWidth": 3200,
    }
    return dicom(slice_pixels(place), syntax, **described | attributes)


def stack(places: Sequence[float], **attributes: Any) -> list[bytes]:
    """Return slices at places in mm, with instance numbers that run against them."""
    return [slice_dicom(place, 100 - index, **attributes) for index, place in enumerate(places)]


def measured(image: bytes) -> tuple[Image, Slice]:
    """Return an image as a server decodes it, and its part of a volume."""
    decoded = decode(image)
    marked = np.asarray(decoded.pixels.convert("L")) > 230
    return decoded, Slice(int(marked.sum()), hashlib.sha256(image).hexdigest(), decoded.spacing, decoded.plane)


def segmentation(image: bytes, model: str) -> dict[str, Any]:
    """Return the prediction of a scripted segmentation model, which marks bright pixels."""
    decoded, part = measured(image)
    marked = np.asarray(decoded.pixels.convert("L")) > 230
    rows, columns = np.nonzero(marked)
    box = None
    if part.pixels:
        sides = {"width": int(np.ptp(columns)) + 1, "height": int(np.ptp(rows)) + 1}
        box = {"left": int(columns.min()), "top": int(rows.min())} | sides
    area: dict[str, Any] = {"pixels": part.pixels, "fraction": part.pixels / marked.size}
    described: dict[str, Any] = {"format": "dicom", "width": decoded.width, "height": decoded.height}
    described["sha256"] = part.sha256
    if decoded.spacing is not None:
        area["mm2"] = part.pixels * decoded.spacing[0] * decoded.spacing[1]
        described["spacing"] = list(decoded.spacing)
    return prediction(
        image,
        model={"name": model, "version": "1.0.0", "sha256": SHA256},
        probability=...,
        probabilities=...,
        label="tumour" if part.pixels else "background",
        positive=part.pixels > 0,
        area=area,
        box=box,
        mask=embedded(np.where(marked, 255, 0).astype(np.uint8)),
        image=described,
    )


def classification(image: bytes, model: str) -> dict[str, Any]:
    """Return the prediction of a scripted classifier: the more bright pixels, the more probable its finding."""
    decoded, part = measured(image)
    share = min(0.99, 0.05 + part.pixels / 400)
    label, probability = ("pneumonia", share) if share >= 0.5 else ("normal", 1 - share)
    return prediction(
        image,
        model={"name": model, "version": "1.0.0", "sha256": SHA256},
        label=label,
        probability=probability,
        probabilities={"normal": 1 - share, "pneumonia": share},
        positive=share >= 0.5,
        image={
            "format": "dicom",
            "width": decoded.width,
            "height": decoded.height,
            "sha256": hashlib.sha256(image).hexdigest(),
        },
    )


def answer(requests: list[int], model: str = "slices") -> Callable[[Route], None]:
    """Return a server for `scripted.script`; it appends the number of images of each request."""
    predict = segmentation if model == "slices" else classification

    def entry(image: bytes) -> tuple[dict[str, Any], Slice | None]:
        try:
            return predict(image, model), measured(image)[1]
        except RequestError as error:
            return problem_details(error), None

    def respond(route: Route) -> None:
        request = route.request
        body = request.post_data_buffer or b""
        if body.startswith(b"--"):
            image = body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")]
            if "image/png" in request.headers["accept"]:
                route.fulfill(content_type="image/png", body=png(plain(decode(image))))
            else:
                route.fulfill(json=predict(image, model))
            return
        images = [base64.b64decode(item["b64"].partition(",")[2]) for item in json.loads(body)["instances"]]
        requests.append(len(images))
        entries = [entry(image) for image in images]
        document: dict[str, Any] = {"predictions": [item for item, _ in entries], "history": "stored"}
        if model == "slices":
            document["volume"] = volume.measure([part for _, part in entries])
        route.fulfill(json=document)

    return respond


def item(path: str, **header: Any) -> dict[str, Any]:
    """Return a file as `series_start.js` describes it."""
    known = {"series": "1", "modality": "MR", "instance": 1, "position": None, "orientation": None}
    return {"path": path, "header": known | {"thickness": None, "between": None} | header, "isImage": False}


def at(path: str, z: float, **header: Any) -> dict[str, Any]:
    return item(path, position=[0, 0, z], orientation=[1, 0, 0, 0, 1, 0], **header)
