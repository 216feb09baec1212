"""Documents that handlers, gateway and server really write, against the JSON Schema and its models."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history.sqlite import SqliteHistory
from gateway.services import Services
from handlers.classification import Classification
from handlers.segmentation import Segmentation
from handlers.torchserve_handler import TorchServeHandler
from radserve.schema.json_schema import ROOTS, json_schema
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend, json_response
from tests.handlers.batch import context
from tests.handlers.formats.test_zip import zipped
from tests.handlers.images import dicom, saved
from tests.radserve import control_documents
from tests.spots import HEIGHT, WIDTH, figure, painted, unpacked

SCHEMA = json_schema()
FILM = saved(np.tile(np.linspace(40, 240, 96).astype(np.uint8), (64, 1)), "PNG")
SLICE = painted(figure(HEIGHT, WIDTH))
DARK = np.where(np.eye(HEIGHT, WIDTH) > 0, 60, 20).astype(np.uint8)


def check(name: str, document: object) -> None:
    """Validate a document against a definition of the schema and against the model of that name."""
    Draft202012Validator(SCHEMA | {"$ref": f"#/$defs/{name}"}, format_checker=FormatChecker()).validate(document)
    next(root for root in ROOTS if root.__name__ == name).model_validate(document)


@pytest.fixture(scope="module")
def classifier(brightness_archive: Path) -> Classification:
    service = Classification()
    service.initialize(context(brightness_archive, []))
    return service


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmentation:
    service = Segmentation()
    service.initialize(context(unpacked(tmp_path_factory.mktemp("spots")), []))
    return service


def answer(service: TorchServeHandler, body: Any, **headers: str) -> Any:
    (response,) = service.handle([{"body": body}], context(Path(), [headers]))
    return json.loads(response)


def instances(*images: bytes) -> dict[str, Any]:
    return {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}


def slices(*pixels: np.ndarray[Any, Any]) -> bytes:
    def slice_file(number: int) -> bytes:
        return dicom(
            pixels[number],
            SOPInstanceUID=f"1.2.3.{number}",
            Modality="MR",
            SeriesInstanceUID="1.2.3",
            PixelSpacing=[0.5, 2.0],
            ImagePositionPatient=[0, 0, 6.0 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )

    return zipped({f"{number}.dcm": slice_file(number) for number in range(len(pixels))})


def test_a_classification_matches(classifier: Classification) -> None:
    check("Prediction", answer(classifier, FILM))


def test_an_explanation_matches(classifier: Classification) -> None:
    check("Explanation", answer(classifier, FILM, explain="True"))


def test_a_segmentation_with_and_without_findings_matches(segmenter: Segmentation) -> None:
    check("Segmentation", answer(segmenter, saved(SLICE, "PNG")))
    empty = answer(segmenter, saved(DARK, "PNG"))
    assert empty["box"] is None
    check("Segmentation", empty)
    spaced = answer(segmenter, dicom(SLICE, Modality="MR", PixelSpacing=[0.5, 2.0]))
    assert spaced["area"]["mm2"] > 0
    check("Segmentation", spaced)


def test_a_rejected_image_matches(classifier: Classification) -> None:
    check("ProblemDetails", answer(classifier, b"notes"))
    check("ProblemDetails", answer(classifier, FILM, accept="image/png;view=mask"))


def test_several_images_match_whether_answered_or_rejected(classifier: Classification, segmenter: Segmentation) -> None:
    for service in (classifier, segmenter):
        document = answer(service, instances(FILM, b"notes", saved(SLICE, "PNG")))
        assert [entry.get("status") for entry in document["predictions"]] == [None, 415, None]
        check("ResultList", document)


def test_a_series_and_its_volume_match(segmenter: Segmentation) -> None:
    document = answer(segmenter, slices(SLICE, DARK, SLICE))
    assert document["volume"]["ml"] > 0
    check("Series", document)
    unknown = answer(segmenter, instances(saved(SLICE, "PNG"), b"notes"))
    assert unknown["volume"]["reason"]
    check("Series", unknown)


@pytest.fixture
def gateway(classifier: Classification, segmenter: Segmentation, tmp_path: Path) -> Services:
    """Gateway with a history, before both handlers."""

    def script(question: ModelRequest) -> ModelResponse:
        service = segmenter if question.model == "spots" else classifier
        body = json.loads(question.body) if question.media_type == "application/json" else question.body
        document = answer(service, body, explain=str(question.verb == "explanations"))
        status = document.get("status", 200)
        return json_response(
            with_archive(document), status, "application/json" if status == 200 else "application/problem+json"
        )

    return services(FakeBackend(script), history=SqliteHistory(tmp_path / "history.sqlite3"))


def with_archive(document: dict[str, Any]) -> dict[str, Any]:
    """Add the digest that `radserve serve` knows and a bare handler does not."""
    for entry in document.get("predictions", [document]):
        if "model" in entry:
            entry["model"]["sha256"] = "a" * 64
    return document


def test_the_documents_of_a_gateway_match(gateway: Services) -> None:
    async def exchange() -> Iterator[tuple[str, Any]]:
        async with running_client(gateway) as client:
            predicted = (await client.post("/api/predictions/brightness", content=FILM)).json()
            return iter(
                [
                    ("Prediction", predicted),
                    ("Explanation", (await client.post("/api/explanations/brightness", content=FILM)).json()),
                    ("Segmentation", (await client.post("/api/predictions/spots", content=saved(SLICE, "PNG"))).json()),
                    ("ResultList", (await client.post("/api/predictions/spots", json=instances(FILM, b"x"))).json()),
                    ("ProblemDetails", (await client.post("/api/predictions/brightness", content=b"notes")).json()),
                    ("ProblemDetails", (await client.get("/api/nothing")).json()),
                    ("Catalog", (await client.get("/api/models")).json()),
                    ("StoredResult", (await client.get(f"/api/results/{predicted['id']}")).json()),
                    ("HistoryPage", (await client.get("/api/results")).json()),
                ]
            )

    documents = list(asyncio.run(exchange()))
    for name, document in documents:
        check(name, document)
    assert len(documents[-1][1]["results"]) == 3  # the explanation is that of the first prediction
    assert documents[0][1]["history"] == "kept"


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("ServerStatus", control_documents.overview()),
        ("ModelStatus", control_documents.model(rollout=control_documents.SHADOWED)),
        ("RolloutStatus", control_documents.rollout()),
        ("AuditLog", {"entries": [control_documents.ENTRY]}),
    ],
)
def test_the_documents_that_tests_of_the_control_client_use_match(name: str, document: object) -> None:
    check(name, document)


@pytest.mark.parametrize(
    ("changes"),
    [{"label": ""}, {"positive": "yes"}, {"threshold": 2}, {"image": {}}, {"model": {"name": "x", "version": "1"}}],
)
def test_a_malformed_document_does_not_match(classifier: Classification, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        check("Prediction", answer(classifier, FILM) | changes)


def test_the_schema_is_valid_and_defines_every_document() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert {root.__name__ for root in ROOTS} <= set(SCHEMA["$defs"])


def test_the_module_writes_the_schema_without_heavy_imports() -> None:
    code = "import sys, runpy; runpy.run_module('radserve.schema.json_schema', run_name='__main__')\n"
    code += "assert not {'torch', 'numpy', 'PIL', 'yaml', 'httpx'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == SCHEMA
