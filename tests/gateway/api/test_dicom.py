"""Results as DICOM objects."""

import asyncio
import base64
import email
import email.policy
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history.sqlite import SqliteHistory
from radserve.dicom.objects import encode
from radserve.schema.segmentation import Segmentation
from tests.gateway.api.test_predictions import instances, post
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend, json_response, respond
from tests.radserve.dicom import examples
from tests.radserve.dicom.test_frames import enhanced, series

Script = Callable[[ModelRequest], ModelResponse]
ALL = 'multipart/related; type="application/dicom"'
FILM, SLICE = examples.image(modality="DX"), examples.image()
HEAT = np.resize(np.arange(256, dtype=np.uint8), (40, 56))
MASK = examples.blob(40, 56)
PICTURE = ModelResponse(200, "image/png", examples.png(np.full((40, 56, 3), 120, dtype=np.uint8)))


def document(result: Any, name: str = "chest") -> dict[str, Any]:
    """Return a result as the server sends it, from the model that the requests name."""
    sent: dict[str, Any] = json.loads(json.dumps({**result.raw}))
    return sent | {"model": {"name": name, "version": "1.0.0", "sha256": examples.SHA256}}


def classifier(explains: bool = True) -> Script:
    def script(request: ModelRequest) -> ModelResponse:
        if request.accept.startswith("image/png"):
            assert request.accept.endswith("overlay" if explains else "image")
            return PICTURE
        if request.verb == "predictions":
            return json_response(document(examples.classification(FILM, (40, 56))))
        if not explains:
            return json_response({"status": 404, "title": "x", "detail": "none"}, 404, "application/problem+json")
        return json_response(document(examples.explanation(FILM, HEAT)))

    return script


def segmenter(request: ModelRequest) -> ModelResponse:
    if request.accept.startswith("image/png"):
        return PICTURE
    return json_response(document(examples.segmentation(SLICE, MASK, [0.5, 0.75])))


def send(script: Script, content: bytes, accept: str, **request: Any) -> httpx.Response:
    return post(script, content=content, headers={"Accept": accept} | request)


def parts(response: httpx.Response) -> list[Dataset]:
    """Return the objects of a response; its format is that of a mail."""
    assert response.status_code == 200, response.text
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    assert {part.get_content_type() for part in message.iter_parts()} == {"application/dicom"}
    boundary = response.headers["content-type"].partition("boundary=")[2].encode()
    bodies = response.content.split(b"--" + boundary)[1:-1]
    return [dcmread(BytesIO(body.partition(b"\r\n\r\n")[2])) for body in bodies]


@pytest.mark.parametrize(
    ("script", "content", "accept", "modality"),
    [
        (classifier(), FILM, "application/dicom", "SR"),
        (classifier(), FILM, "application/dicom;type=seg", "SEG"),
        (classifier(), FILM, "application/json;q=0.5, application/dicom; type=SC", "OT"),
        (segmenter, SLICE, "application/dicom", "SEG"),
        (segmenter, SLICE, 'application/dicom; type="sr"', "SR"),
    ],
)
def test_one_object_is_answered_by_type_or_by_task(script: Script, content: bytes, accept: str, modality: str) -> None:
    response = send(script, content, accept)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/dicom")
    assert dcmread(BytesIO(response.content)).Modality == modality


@pytest.mark.parametrize(
    ("script", "content", "modalities"),
    [
        (classifier(), FILM, ["SR", "SEG", "OT"]),
        (classifier(explains=False), FILM, ["SR", "OT"]),
        (segmenter, SLICE, ["SR", "SEG", "OT"]),
    ],
)
def test_all_objects_are_answered_in_one_response(script: Script, content: bytes, modalities: list[str]) -> None:
    assert [item.Modality for item in parts(send(script, content, ALL))] == modalities


def test_the_slices_of_a_series_are_one_segmentation_and_a_picture_of_the_largest_mask() -> None:
    slices = [
        examples.image(InstanceNumber=number, ImagePositionPatient=[0, 0, 4 * number], SeriesDescription="x")
        for number in (1, 2, 3)
    ]
    masks = [MASK & (np.arange(56) < 28), MASK, np.zeros_like(MASK)]
    rejection = {"status": 422, "title": "Unusable", "detail": "no image"}
    drawn: list[ModelRequest] = []

    def script(
        request: ModelRequest, marked: int = 3, picture: ModelResponse = PICTURE, statuses: tuple[str, ...] = ()
    ) -> ModelResponse:
        if request.accept.startswith("image/png"):
            drawn.append(request)
            return picture
        shown = [mask if index < marked else masks[2] for index, mask in enumerate(masks)]
        pairs = zip(slices, shown, strict=True)
        results = [
            document(examples.segmentation(content, mask, [0.5, 0.75], repair="invert"), "slices")
            for content, mask in pairs
        ]
        for result, status in zip(results, statuses, strict=False):
            result["domain"] = {"score": 1, "percentile": 99, "status": status, "mode": "strict"}
        pixels = int(sum(mask.sum() for mask in shown))
        volume = {"slices": 4, "positive_slices": min(marked, 2), "pixels": pixels, "reason": "a slice was rejected"}
        return json_response({"predictions": [*results, rejection], "volume": volume})

    def request(accept: str, **changes: Any) -> httpx.Response:
        body = json.loads(instances(*slices, b"no image")) | {"repair": "invert"}
        headers = {"Content-Type": "application/json", "Accept": accept}
        path = "/api/predictions/slices"
        return post(partial(script, **changes), path, content=json.dumps(body).encode(), headers=headers)

    assert dcmread(BytesIO(request("application/dicom").content)).NumberOfFrames == 2
    assert drawn == []
    report, mask, picture = parts(request(ALL))
    assert (report.Modality, mask.Modality, picture.Modality) == ("SR", "SEG", "OT")
    assert b"1 of 4 slices were not analysed." in encode(report)
    (source,) = picture.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == f"{examples.ROOT}1.1.2"
    (sent,) = drawn
    assert (sent.body, sent.version, sent.accept, sent.repair) == (
        slices[1],
        "1.0.0",
        "image/png;view=overlay",
        "invert",
    )
    assert dcmread(BytesIO(request("application/dicom; type=sc").content)).Modality == "OT"
    for status, tries in ((422, 2), (503, 1)):
        drawn.clear()
        failed = json_response({"status": status, "title": "x", "detail": "x"}, status, "application/problem+json")
        assert [item.Modality for item in parts(request(ALL, picture=failed))] == ["SR", "SEG"]
        assert [item.body for item in drawn] == [slices[1], slices[0]][:tries]
    drawn.clear()
    assert len(parts(request(ALL, statuses=("normal", "unusual", "normal")))) == 3
    assert [item.body for item in drawn] == [slices[0]]
    assert [item.Modality for item in parts(request(ALL, marked=0))] == ["SR", "SEG"]
    assert request("application/dicom; type=sc", marked=0).status_code == 406


def test_the_frames_of_an_object_are_answered_as_one_segmentation() -> None:
    content = enhanced(3)
    answer = series(content, [True, None, True])

    def script(request: ModelRequest) -> ModelResponse:
        items = [
            document(item, "slices") if isinstance(item, Segmentation) else item.model_dump(exclude_none=True)
            for item in answer.predictions
        ]
        return json_response({"predictions": items, "volume": answer.volume.model_dump(exclude_none=True)})

    path = "/api/predictions/slices"
    report, mask = parts(post(script, path, content=content, headers={"Accept": ALL}))
    assert (report.Modality, mask.Modality, mask.NumberOfFrames) == ("SR", "SEG", 2)
    refused = post(script, path, content=content, headers={"Accept": "application/dicom; type=sc"})
    assert (refused.status_code, "draws no single frame; request SEG or SR." in refused.text) == (406, True)


def test_a_json_body_gets_objects_of_its_image() -> None:
    body = json.dumps({"image": base64.b64encode(SLICE).decode()}).encode()
    response = send(segmenter, body, "application/dicom", **{"Content-Type": "application/json"})
    assert np.array_equal(dcmread(BytesIO(response.content)).pixel_array > 0, MASK)


@pytest.mark.parametrize(
    ("script", "content", "accept", "detail"),
    [
        (respond, b"\x89PNG", "application/dicom", "The image is png, not DICOM"),
        (segmenter, SLICE, "application/dicom;type=jpeg", "unknown type 'jpeg'; available: sr, seg, sc"),
        (classifier(explains=False), FILM, "application/dicom;type=seg", "no object of the requested type"),
        (respond, instances(b"\x89PNG", b"\x89PN"), "application/dicom", "Several images have no common DICOM result"),
    ],
)
def test_what_does_not_exist_as_dicom_is_not_acceptable(
    script: Script, content: bytes, accept: str, detail: str
) -> None:
    response = send(script, content, accept, **{"Content-Type": "application/json"} if content[:1] == b"{" else {})
    assert response.status_code == 406
    assert detail in response.json()["detail"]


@pytest.mark.parametrize(
    ("content", "accept", "detail"),
    [
        (b"\x89PNG\r\n\x1a\n", "application/dicom", "The image is png, not DICOM"),
        (FILM[:140], ALL, "The DICOM file"),
        (instances(FILM, SLICE), "application/dicom", "Several images have no common DICOM result"),
        (instances(FILM, SLICE), "application/dicom;type=sc", "no common DICOM result"),
    ],
)
def test_what_cannot_become_dicom_is_rejected_before_a_model_runs(content: bytes, accept: str, detail: str) -> None:
    response = send(unreachable, content, accept, **{"Content-Type": "application/json"} if content[:1] == b"{" else {})
    assert (response.status_code, detail in response.json()["detail"]) == (406, True)


def test_slices_of_different_patients_are_rejected_before_a_model_runs() -> None:
    body = instances(SLICE, examples.image(InstanceNumber=2, PatientID="4712"))
    headers = {"Content-Type": "application/json", "Accept": "application/dicom"}
    response = post(unreachable, "/api/predictions/slices", content=body, headers=headers)
    assert (response.status_code, "different PatientID" in response.json()["detail"]) == (406, True)


def unreachable(request: ModelRequest) -> ModelResponse:
    raise AssertionError(f"sent to {request.model}")


def test_a_damaged_picture_is_a_fault_of_the_server() -> None:
    def script(request: ModelRequest) -> ModelResponse:
        response = segmenter(request)
        return replace(response, body=response.body[:60]) if response is PICTURE else response

    response = send(script, SLICE, "application/dicom;type=sc")
    assert (response.status_code, "damaged picture" in response.json()["detail"]) == (502, True)


def test_the_id_of_the_stored_result_is_a_header(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> None:
        async with running_client(services(FakeBackend(segmenter), history=history)) as client:
            headers = {"Accept": "application/dicom"}
            response = await client.post("/api/predictions/chest", content=SLICE, headers=headers)
            (entry,) = (await client.get("/api/results")).json()["results"]
            assert response.headers["x-result-id"] == entry["id"]

    asyncio.run(work())
    assert "x-result-id" not in send(segmenter, SLICE, "application/dicom").headers


@pytest.mark.parametrize(("count", "ids"), [(32, 32), (33, 0)])
def test_the_ids_of_many_results_do_not_exceed_the_headers_that_a_proxy_accepts(
    count: int, ids: int, tmp_path: Path
) -> None:
    slices = [examples.image(InstanceNumber=number, ImagePositionPatient=[0, 0, number]) for number in range(count)]
    results = [document(examples.segmentation(content, MASK, [0.5, 0.75]), "slices") for content in slices]
    volume = {"slices": count, "positive_slices": count, "pixels": count * int(MASK.sum()), "reason": "x"}
    backend = FakeBackend(lambda _: json_response({"predictions": results, "volume": volume}))
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> httpx.Response:
        async with running_client(services(backend, history=history)) as client:
            headers = {"Content-Type": "application/json", "Accept": "application/dicom; type=sr"}
            return await client.post("/api/predictions/slices", content=instances(*slices), headers=headers)

    response = asyncio.run(work())
    assert response.status_code == 200
    assert len([item for item in response.headers.get("x-result-id", "").split(", ") if item]) == ids


def test_json_is_preferred_where_a_client_says_so() -> None:
    assert send(segmenter, SLICE, "application/json, application/dicom").json()["label"] == "tumour"
