"""The Open Inference Protocol: tritonclient, JSON, rejections, history, access."""

import asyncio
import base64
import json
import re
import struct
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from gateway.access.authentication import CredentialAuthenticator
from gateway.backends.base import ModelRequest, ModelResponse
from gateway.errors import ContentTooLargeError
from gateway.history.sqlite import SqliteHistory
from gateway.open_inference import wire
from gateway.rate_limit import RateLimiter
from gateway.settings import Settings
from radserve.auth import key_file
from radserve.auth.api_keys import Role
from radserve.auth.key_check import Keyring
from tests import gateways
from tests.conftest import ROOT
from tests.gateway.application import client, gateway, running_client, services, serving
from tests.gateway.fake_backend import CATALOG, FakeBackend, json_response, prediction, respond
from tests.handlers.images import dicom, film
from tests.server import Server

ONE, TWO = b"\x89PNG one", b"\xff\xd8\xff two"
BAD = b"\x89 bad"
PATH = "/v2/models/chest/infer"


def rejecting(request: ModelRequest) -> ModelResponse:
    """Reject the image BAD, and analyse the others."""
    document = json.loads(respond(request).body)
    images = [base64.b64decode(item["b64"]) for item in json.loads(request.body)["instances"]]
    problem = {"status": 422, "title": "Unusable image", "detail": "It has no contrast."}
    items = [problem if image == BAD else item for image, item in zip(images, document["predictions"], strict=True)]
    return json_response({"predictions": items})


def mask() -> bytes:
    """Return the mask of an image without findings."""
    stream = BytesIO()
    Pillow.new("L", (20, 10)).save(stream, "PNG")
    return stream.getvalue()


MASK = mask()
SEGMENTED: dict[str, Any] = {
    "label": "nothing",
    "area": {"pixels": 0, "fraction": 0.0},
    "box": None,
    "mask": {"encoding": "png", "width": 20, "height": 10, "data": base64.b64encode(MASK).decode()},
    "probability": ...,
    "probabilities": ...,
}
"""Changes that turn a prediction into that of a segmentation model."""


@pytest.fixture
def triton() -> Iterator[InferenceServerClient]:
    with serving(gateway(backend=FakeBackend(rejecting))) as address:
        yield InferenceServerClient(address)


def tensor(*images: bytes, shape: tuple[int, ...] | None = None) -> InferInput:
    """Return the input of `tritonclient`, which sends it as binary data."""
    elements = np.array([*images, None], dtype=object)[:-1].reshape(shape or (len(images),))
    result = InferInput("image", list(elements.shape), "BYTES")
    result.set_data_from_numpy(elements)
    return result


def document(*data: object, **changes: Any) -> dict[str, Any]:
    """Return a request in JSON."""
    image = {"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": list(data)}
    return {"inputs": [image | changes.pop("image", {})]} | changes


def post(body: Any = None, path: str = PATH, backend: FakeBackend | None = None, **request: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(gateway(backend=backend or FakeBackend(rejecting))) as http:
            return await http.post(path, **({"json": body} if body is not None else {}), **request)

    return asyncio.run(send())


def values(response: httpx.Response) -> dict[str, list[Any]]:
    """Return the outputs of a response in JSON."""
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def test_tritonclient_reads_health_and_metadata(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("chest")
    assert triton.is_model_ready("chest", "1.0.0")
    assert not triton.is_model_ready("chest", "2.0.0")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    for version in ("", "1.0.0"):
        metadata = triton.get_model_metadata("chest", version)
        assert (metadata["name"], metadata["versions"]) == ("chest", ["1.0.0"])
        assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
        types = {output["name"]: output["datatype"] for output in metadata["outputs"]}
        assert types == {
            "label": "BYTES",
            "probability": "FP64",
            "status": "INT32",
            "error": "BYTES",
            "result": "BYTES",
        }
    with pytest.raises(InferenceServerException, match="Unknown model or version"):
        triton.get_model_metadata("other")


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_tritonclient_gets_results_in_order_and_a_rejected_image_does_not_lose_its_neighbours(
    triton: InferenceServerClient, shape: tuple[int, ...]
) -> None:
    result = triton.infer("chest", [tensor(ONE, BAD, TWO, shape=shape)], request_id="42")
    assert result.get_response()["id"] == "42"
    assert (result.get_response()["model_name"], result.get_response()["model_version"]) == ("chest", "1.0.0")
    assert result.as_numpy("label").tolist() == [b"normal", b"", b"normal"]
    assert result.as_numpy("status").tolist() == [200, 422, 200]
    assert result.as_numpy("error").tolist() == [b"", b"It has no contrast.", b""]
    np.testing.assert_array_equal(result.as_numpy("probability"), [0.75, np.nan, 0.75])
    whole = [json.loads(item) for item in result.as_numpy("result")]
    assert [item.get("image", {}).get("sha256") for item in whole] == [
        prediction(ONE)["image"]["sha256"],
        None,
        prediction(TWO)["image"]["sha256"],
    ]


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_the_outputs_that_it_requests(triton: InferenceServerClient, binary: bool) -> None:
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in ("probability", "label")]
    result = triton.infer("chest", [tensor(ONE, BAD)], "1.0.0", outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["probability", "label"]
    np.testing.assert_array_equal(result.as_numpy("probability"), [0.75, np.nan])
    assert [item if isinstance(item, str) else item.decode() for item in result.as_numpy("label")] == ["normal", ""]


def test_tritonclient_gets_the_reason_of_an_error(triton: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[422\] It has no contrast\."):
        triton.infer("chest", [tensor(BAD)])
    with pytest.raises(InferenceServerException, match=r"\[422\] Every image was rejected\.\n0: .*\n1: It has"):
        triton.infer("chest", [tensor(BAD, BAD)])
    with pytest.raises(InferenceServerException, match=r"\[404\] Unknown model"):
        triton.infer("other", [tensor(ONE)])
    with pytest.raises(InferenceServerException, match=r"\[400\] Unknown output 'x'. Known: label, "):
        triton.infer("chest", [tensor(ONE)], outputs=[InferRequestedOutput("x")])
    with pytest.raises(InferenceServerException, match=r"\[400\] Unknown parameter 'priority' of the request"):
        triton.infer("chest", [tensor(ONE)], priority=1)
    with pytest.raises(InferenceServerException, match=r"\[415\] Compressed"):
        triton.infer("chest", [tensor(ONE)], request_compression_algorithm="gzip")


def test_json_elements_are_base64_or_one_character_for_each_byte() -> None:
    every_byte = bytes(range(256))
    body = document(base64.b64encode(ONE).decode(), ONE.decode("latin-1"), every_byte.decode("latin-1"))
    response = post(body | {"id": "é"})
    assert response.json()["id"] == "é"
    read = [json.loads(item)["image"]["sha256"] for item in values(response)["result"]]
    assert read == [prediction(image)["image"]["sha256"] for image in (ONE, ONE, every_byte)]
    assert "inference-header-content-length" not in response.headers


def test_an_image_with_several_frames_is_rejected() -> None:
    content = base64.b64encode(dicom(film(), NumberOfFrames=2)).decode()
    response = post(
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [content]}]},
        backend=FakeBackend(respond),
    )
    assert (response.status_code, "several frames" in response.json()["error"]) == (415, True)


def test_json_accepts_base64_in_lines_and_data_urls_as_predictions_do() -> None:
    encoded = base64.b64encode(ONE).decode()
    lines, url = f"{encoded[:4]}\r\n{encoded[4:]} \t", f"data:image/png;base64,{encoded[:4]}\n{encoded[4:]}"
    read = [json.loads(item)["image"]["sha256"] for item in values(post(document(lines, url)))["result"]]
    assert read == [prediction(ONE)["image"]["sha256"]] * 2


def test_json_has_null_for_a_missing_probability() -> None:
    outputs = values(post(document(base64.b64encode(ONE).decode(), base64.b64encode(BAD).decode())))
    assert outputs["probability"] == [0.75, None]


def test_nested_data_and_query_and_headers_reach_the_model() -> None:
    backend = FakeBackend(lambda request: json_response({"predictions": [prediction(ONE, repair=request.repair)]}))
    body = document([ONE.decode("latin-1")], image={"shape": [1, 1]})
    headers = {"X-Assurances": "age=5", "X-Client-Id": "me"}
    response = post(body, f"{PATH}?repair=invert&prevalence=0.1", backend, headers=headers)
    assert values(response)["label"] == ["normal"]
    assert (backend.requests[0].assurances, backend.requests[0].client) == ("age=5, prevalence=0.1", "me")
    assert backend.requests[0].verb == "predictions"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "inputs: Field required"),
        (document("x", inputs=[]), "at least 1 item"),
        (document(1), "inputs 0 data"),
        (document("x", id=7), "id: Input should be a valid string"),
        (document("x", surprise=1), "surprise: Extra inputs are not permitted"),
        (document("x", image={"name": "film"}), "Unknown input 'film' of type 'BYTES'; send 'image'"),
        (document("x", image={"datatype": "FP32"}), "of type 'FP32'"),
        (document("x", image={"shape": []}), "has shape []"),
        (document("x", image={"shape": [1, 2]}), "has shape [1, 2]"),
        (document("eA==", image={"shape": [2]}), "has shape [2], but 1 elements"),
        (document(image={"shape": [0]}), "has shape [0]"),
        (document("x", image={"data": None}), "either data or the parameter binary_data_size"),
        (document("x", image={"parameters": {"shared_memory_region": "r"}}), "unknown parameter"),
        (document("x", image={"data": None, "parameters": {"binary_data_size": 9}}), "binary_data_size is 9, but 0"),
        (document("\u0100"), "neither base64 nor"),
        (document("iVBORw0KGgo"), "invalid base64"),
        (document("data:image/png;base64,\x89PNG"), "invalid base64"),
        (document("eA==", parameters={"sequence_id": 1}), "Unknown parameter 'sequence_id' of the request"),
        (document("eA==", parameters={"binary_data_output": 1}), "must be true or false"),
        (document("eA==", outputs=[{"name": "label", "parameters": {"binary_data": "yes"}}]), "must be true or false"),
        (document("eA==", outputs=[{"name": "label", "parameters": {"classification": 3}}]), "of the output 'label'"),
    ],
)
def test_an_invalid_request_is_rejected_with_the_reason(body: Any, reason: str) -> None:
    backend = FakeBackend()
    response = post(body, backend=backend)
    assert response.status_code == 400, response.text
    assert reason in response.json()["error"]
    assert response.json()["detail"] == response.json()["error"]
    assert backend.requests == []


def binary(data: bytes, count: int = 1, length: str = "") -> dict[str, Any]:
    """Return a request with binary data."""
    image = {"shape": [count], "data": None, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps(document(image=image)).encode()
    return {"content": head + data, "headers": {"Inference-Header-Content-Length": length or str(len(head))}}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (binary(b"\x03\0"), "ends within the length"),
        (binary(struct.pack("<I", 9) + b"short"), "ends within an element"),
        (binary(b"\0" * 4_000_000), "but 2 elements or more"),
        (binary(b"", length="99999"), "must be the length"),
        (binary(b"", length="-1"), "must be the length"),
        (binary(b"", length="7"), "Invalid inference request"),
    ],
)
def test_invalid_binary_data_is_rejected_with_the_reason(request_: dict[str, Any], reason: str) -> None:
    response = post(**request_)
    assert response.status_code == 400, response.text
    assert reason in response.json()["error"]


def test_a_request_is_limited_like_a_form() -> None:
    many = document(*["x"] * (Settings.read().max_files + 1))
    assert post(many).status_code == 413
    assert post(content=b"[" * 300_000).status_code == 413
    assert post(path="/v2/models/Chest/infer", body=document("x")).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        document(*[0] * 249_000, image={"shape": [1]}),
        document(*[[0] * 60] * 60, image={"shape": [1]}),
        document("eA==", **{f"k{number}": 1 for number in range(200_000)}),
        document("eA==", parameters={f"k{number}": None for number in range(50_000)}),
        document("eA==", inputs=[{}] * 60_000),
    ],
    ids=["elements", "nested elements", "keys", "parameters", "inputs"],
)
def test_a_document_with_many_invalid_values_is_rejected_before_pydantic_creates_an_error_for_each(body: Any) -> None:
    content = json.dumps(body).encode()
    tracemalloc.start()
    try:
        with pytest.raises(ContentTooLargeError, match="values"):
            wire.parse(content, None, Settings.read().max_files)
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


def test_a_mask_is_a_png() -> None:
    class Slices(FakeBackend):
        async def catalog(self) -> Any:
            version = CATALOG["models"][0]["versions"][0] | {"task": "segmentation"}
            return type(await super().catalog()).model_validate({"models": [{"name": "chest", "versions": [version]}]})

    backend = Slices(lambda _: json_response({"predictions": [prediction(ONE, **SEGMENTED)]}))
    with serving(gateway(backend=backend)) as address:
        result = InferenceServerClient(address).infer("chest", [tensor(ONE)])
    assert result.as_numpy("mask").tolist() == [MASK]
    assert result.as_numpy("probability") is None
    assert values(post(document(ONE.decode("latin-1")), backend=backend))["mask"] == [base64.b64encode(MASK).decode()]


def test_results_are_recorded_and_rejections_are_not(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> None:
        async with running_client(services(FakeBackend(rejecting), history=history)) as http:
            body = document(*[image.decode("latin-1") for image in (ONE, BAD, TWO)])
            results = [json.loads(item) for item in values(await http.post(PATH, json=body))["result"]]
            stored = (await http.get("/api/results")).json()["results"]
            assert {item["id"] for item in stored} == {item["id"] for item in results if "id" in item}
            assert len(stored) == 2

    asyncio.run(work())


@pytest.mark.parametrize(
    "response",
    [
        ModelResponse(200, "image/png", b"\x89PNG"),
        json_response({"predictions": [prediction(ONE, **SEGMENTED)]}),
    ],
    ids=["picture", "other task"],
)
def test_a_response_of_another_kind_than_the_catalog_says_is_a_fault_of_the_server_and_not_recorded(
    response: ModelResponse, tmp_path: Path
) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> None:
        async with running_client(services(FakeBackend(lambda _: response), history=history)) as http:
            refused = await http.post(PATH, json=document(base64.b64encode(ONE).decode()))
            assert refused.status_code == 502, refused.text
            assert "discarded" in refused.json()["error"]
            assert (await http.get("/api/results")).json()["results"] == []

    asyncio.run(work())


def test_access_is_that_of_predictions(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    predict, read = key_file.create(file, "ward", [Role.PREDICT]), key_file.create(file, "auditor", [Role.READ])
    limiter = RateLimiter(Settings.read(rate="4/minute"))
    authenticator = CredentialAuthenticator(Keyring.open(str(file)))
    with serving(gateway(authenticator, FakeBackend(), rate_limiter=limiter)) as address:
        triton = InferenceServerClient(address)
        assert triton.is_server_ready()
        with pytest.raises(InferenceServerException, match=r"\[401\] Missing API key"):
            triton.infer("chest", [tensor(ONE)])
        assert not triton.is_model_ready("chest")
        with pytest.raises(InferenceServerException, match=r"\[403\] auditor lacks the role 'predict'"):
            triton.infer("chest", [tensor(ONE)], headers={"X-API-Key": read})
        headers = {"Authorization": f"Bearer {predict}"}
        for _ in range(4):
            assert triton.infer("chest", [tensor(ONE)], headers=headers).as_numpy("label").tolist() == [b"normal"]
        with pytest.raises(InferenceServerException, match=r"\[429\] ward exceeded the limit"):
            triton.infer("chest", [tensor(ONE)], headers=headers)


def test_readiness_is_that_of_the_server() -> None:
    backend = FakeBackend()
    backend.problem = "TorchServe is starting."
    with serving(gateway(backend=backend)) as address:
        triton = InferenceServerClient(address)
        assert triton.is_server_live()
        assert not triton.is_server_ready()
        assert not triton.is_model_ready("chest")


@pytest.mark.e2e
def test_the_example_of_the_page_runs(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "open-inference.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with gateways.gateway(server, tmp_path, history="none") as started:
        address = started.url.removeprefix("http://")
        code = example.replace("127.0.0.1:8000", address).replace("archives/", f"{ROOT}/archives/")
        exec(compile(code, "open-inference.md", "exec"), {})
    label, certainty = capsys.readouterr().out.splitlines()
    assert label.startswith("pneumonia 0.9")
    assert "'certain'" in certainty
