"""The page and `radserve.schema` accept and reject the same prediction documents."""

import base64
import copy
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import Page
from pydantic import ValidationError

from radserve.schema.response import RESULT
from tests.gateway.fake_backend import prediction
from tests.gateway.page.conftest import Opener
from tests.gateways import Gateway

CHECK = """async document => {
    const { checkDocument } = await import("/js/prediction.js");
    try {
        checkDocument(document);
        return null;
    } catch (error) {
        return error.detail;
    }
}"""


def png(mask: np.ndarray) -> str:
    stream = BytesIO()
    Pillow.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def segmentation(*, empty: bool = False) -> dict[str, Any]:
    """Return a segmentation that marks 3 x 2 pixels, or none."""
    mask = np.zeros((10, 20), np.uint8)
    if not empty:
        mask[4:6, 7:10] = 255
    document = prediction(b"image", probability=..., probabilities=...)
    return document | {
        "label": "background" if empty else "tumour",
        "positive": not empty,
        "area": {"pixels": int((mask > 0).sum()), "fraction": float((mask > 0).mean())},
        "box": None if empty else {"left": 7, "top": 4, "width": 3, "height": 2},
        "mask": {"encoding": "png", "width": 20, "height": 10, "data": png(mask)},
    }


def with_spacing() -> dict[str, Any]:
    document = segmentation()
    document["image"]["spacing"] = [0.5, 0.5]
    document["area"]["mm2"] = 1.5
    return document


UNCERTAIN = {"status": "uncertain", "prediction_set": ["normal", "pneumonia"], "level": 0.9}
VALID: dict[str, dict[str, Any]] = {
    "negative": prediction(b"image"),
    "positive": prediction(
        b"image", label="pneumonia", positive=True, probability=0.75, probabilities={"normal": 0.25, "pneumonia": 0.75}
    ),
    "without decision": prediction(b"image", positive=None, threshold=None),
    "rounded probabilities": prediction(b"image", probabilities={"normal": 0.75, "pneumonia": 0.255}),
    "one label": prediction(b"image", positive=None, threshold=None, probability=1, probabilities={"normal": 1}),
    "with warning": prediction(b"image", warning="Placeholder weights."),
    "without checksum": prediction(b"image", model={"name": "chest", "version": "1.0.0", "sha256": None}),
    "with unknown key": prediction(b"image", new_key=1),
    "with prevalence": prediction(b"image", prevalence=0.1),
    "certain": prediction(b"image", certainty={"status": "certain", "prediction_set": ["normal"], "level": 0.9}),
    "uncertain": prediction(b"image", certainty=UNCERTAIN),
    "fitting no label": prediction(b"image", certainty=UNCERTAIN | {"prediction_set": []}),
    "contradicted": prediction(b"image", certainty=UNCERTAIN | {"second_label": "pneumonia"}),
    "confirmed": prediction(b"image", certainty=UNCERTAIN | {"prediction_set": [], "second_label": "normal"}),
    "segmentation": segmentation(),
    "empty segmentation": segmentation(empty=True),
    "segmentation with spacing": with_spacing(),
}
MISSING: Any = object()
CLASSIFICATION_CHANGES: list[tuple[str, Any]] = [
    ("label", MISSING),
    ("label", ""),
    ("label", 1),
    ("label", "unknown"),
    ("model", MISSING),
    ("model.name", ""),
    ("model.version", MISSING),
    ("model.sha256", MISSING),
    ("model.sha256", "0"),
    ("image", None),
    ("image.format", ""),
    ("image.width", 0),
    ("image.width", 20.5),
    ("image.height", MISSING),
    ("image.sha256", "x" * 64),
    ("image.spacing", [1]),
    ("image.spacing", [1, 0]),
    ("image.spacing", "1"),
    ("positive", MISSING),
    ("positive", 1),
    ("positive", None),
    ("threshold", MISSING),
    ("threshold", 1.5),
    ("threshold", None),
    ("threshold", 0.1),
    ("warning", ""),
    ("status", 422),
    ("mask", {}),
    ("probability", MISSING),
    ("probability", "0.75"),
    ("probability", 0.5),
    ("probabilities", MISSING),
    ("probabilities", []),
    ("probabilities", {"normal": 0.75, "pneumonia": 0.75}),
    ("probabilities", {"normal": 0.75, "pneumonia": 0.3}),
    ("probabilities", {"normal": 0.75, "pneumonia": "0.25"}),
    ("prevalence", 1.5),
    ("prevalence", "0.1"),
    ("certainty", "uncertain"),
    ("certainty", UNCERTAIN | {"status": "certain"}),
    ("certainty", UNCERTAIN | {"status": "unknown"}),
    ("certainty", UNCERTAIN | {"prediction_set": ["normal"]}),
    ("certainty", UNCERTAIN | {"prediction_set": ["normal", "normal"]}),
    ("certainty", UNCERTAIN | {"prediction_set": ["cat"]}),
    ("certainty", UNCERTAIN | {"level": 2}),
    ("certainty", UNCERTAIN | {"second_label": "cat"}),
    ("certainty", UNCERTAIN | {"prediction_set": [], "second_label": "pneumonia"}),
    ("certainty", UNCERTAIN | {"status": "certain", "prediction_set": ["pneumonia"]}),
]
SEGMENTATION_CHANGES: list[tuple[str, Any]] = [
    ("positive", False),
    ("positive", None),
    ("area", MISSING),
    ("area.pixels", 0),
    ("area.pixels", 10.5),
    ("area.pixels", 1000),
    ("area.fraction", 2),
    ("area.mm2", 1.5),
    ("area.mm2", -1),
    ("image.spacing", [1, 1]),
    ("box", MISSING),
    ("box", None),
    ("box.left", -1),
    ("box.width", 0),
    ("mask", None),
    ("mask.encoding", "jpeg"),
    ("mask.width", 21),
    ("mask.data", ""),
]


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with another value at a dotted path."""
    document = copy.deepcopy(document)
    *parents, key = path.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    if value is MISSING:
        del target[key]
    else:
        target[key] = value
    return document


INVALID = {
    f"{name}: {path} {'missing' if value is MISSING else value!r}": changed(VALID[name], path, value)
    for name, changes in (("negative", CLASSIFICATION_CHANGES), ("segmentation", SEGMENTATION_CHANGES))
    for path, value in changes
}


@pytest.fixture
def modules(opened: Opener, static_gateway: Gateway) -> Page:
    return opened(static_gateway.url)


def schema_accepts(document: dict[str, Any]) -> bool:
    try:
        RESULT.validate_python(document)
    except ValidationError:
        return False
    return True


def test_page_and_schema_accept_the_same_documents(modules: Page) -> None:
    assert {name: schema_accepts(document) for name, document in VALID.items()} == dict.fromkeys(VALID, True)
    assert {name: modules.evaluate(CHECK, document) for name, document in VALID.items()} == dict.fromkeys(VALID)


def test_page_and_schema_reject_the_same_documents(modules: Page) -> None:
    assert [name for name, document in INVALID.items() if schema_accepts(document)] == []
    assert [name for name, document in INVALID.items() if modules.evaluate(CHECK, document) is None] == []
