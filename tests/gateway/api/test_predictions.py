"""/api/predictions and /api/explanations: every response belongs to the images that were sent."""

import asyncio
import base64
import gzip
import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history.sqlite import SqliteHistory
from gateway.metrics import DISCARDED
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend, json_response, prediction, respond

ONE, TWO, THREE = b"\x89PNG one", b"\x89PNG two", b"\x89PNG three"
JSON = {"Content-Type": "application/json"}
PATH = "/api/predictions/chest"


def base(image: bytes) -> str:
    return base64.b64encode(image).decode()


def instances(*images: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base(image)} for image in images]}).encode()


def zipped(*images: bytes, **entries: bytes) -> bytes:
    """Return a zip of images in an order that the server changes, with other entries."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, image in reversed([*enumerate(images, 9)]):
            archive.writestr(f"scan/slice_{number}.png", image)
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def encoded(name: str) -> dict[str, str]:
    return {"Content-Encoding": name}


BODIES: dict[str, dict[str, Any]] = {
    "image": {"content": ONE},
    "image with a type": {"content": ONE, "headers": {"Content-Type": "image/png"}},
    "image announced as JSON": {"content": ONE, "headers": JSON},
    "gzip": {"content": gzip.compress(ONE), "headers": encoded("gzip")},
    "gzip in two members": {"content": gzip.compress(ONE[:3]) + gzip.compress(ONE[3:]), "headers": encoded("X-GZIP")},
    "deflate": {"content": zlib.compress(ONE), "headers": encoded("deflate")},
    "form with one file": {"files": [("file", ("a.png", ONE, "image/png"))]},
    "form with several files": {"files": [("file", (f"{n}.png", i)) for n, i in enumerate((ONE, TWO, THREE))]},
    "form with one zip": {"files": [("file", ("a.zip", zipped(ONE, TWO), "application/zip"))]},
    "JSON": {"json": {"image": base(ONE)}},
    "JSON without a type": {"content": b'\xef\xbb\xbf \n{"image": "%b"}' % base(ONE).encode()},
    "JSON in gzip": {"content": gzip.compress(instances(ONE, TWO)), "headers": JSON | encoded("gzip")},
    "data URL": {"json": {"image": "data:image/png;base64," + base(ONE)}},
    "base64 in lines": {"json": {"image": base(ONE)[:4] + "\r\n" + base(ONE)[4:]}},
    "raw samples": {"json": {"data": base(ONE)}},
    "instances": {"content": instances(ONE, TWO, THREE), "headers": JSON},
    "one instance": {"content": instances(ONE), "headers": JSON},
    "instances with rejected ones": {"json": {"instances": [{"b64": base(ONE)}, {"b64": "?"}, 1, {"data": base(TWO)}]}},
    "zip": {"content": zipped(ONE, TWO, THREE)},
    "zip with hidden files": {"content": zipped(ONE, TWO, **{".DS_Store": b"x", "__MACOSX/a.png": THREE})},
    "zip in gzip": {"content": gzip.compress(zipped(ONE, TWO)), "headers": encoded("gzip")},
}


def post(script: Callable[[ModelRequest], ModelResponse], path: str = PATH, **request: Any) -> httpx.Response:
    """Send a request to a gateway in front of a scripted server."""

    async def work() -> httpx.Response:
        async with running_client(services(FakeBackend(script))) as client:
            return await client.post(path, **request)

    return asyncio.run(work())


def changed(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[ModelRequest], ModelResponse]:
    """Return a script that responds correctly, except for a change of the predictions."""

    def script(request: ModelRequest) -> ModelResponse:
        document = json.loads(respond(request).body)
        change([item for item in document.get("predictions", [document]) if "label" in item])
        return json_response(document)

    return script


def other_image(items: list[dict[str, Any]]) -> None:
    items[-1]["image"]["sha256"] = hashlib.sha256(b"of another patient").hexdigest()


def swapped(items: list[dict[str, Any]]) -> None:
    items[0]["image"], items[1]["image"] = items[1]["image"], items[0]["image"]


@pytest.mark.parametrize("verb", ["predictions", "explanations"])
@pytest.mark.parametrize("request_", BODIES.values(), ids=BODIES)
def test_response_about_the_sent_images_is_passed_on(request_: dict[str, Any], verb: str) -> None:
    response = post(respond, f"/api/{verb}/chest", **request_)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("verb", ["predictions", "explanations"])
@pytest.mark.parametrize("request_", BODIES.values(), ids=BODIES)
def test_response_about_another_image_never_reaches_the_user(
    request_: dict[str, Any], verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = DISCARDED._value.get()
    headers = request_.get("headers", {}) | {"X-Request-Id": "id-7"}
    with caplog.at_level(logging.ERROR):
        response = post(changed(other_image), f"/api/{verb}/chest", **request_ | {"headers": headers})
    assert (response.status_code, response.headers["content-type"]) == (502, "application/problem+json")
    assert "not about the images of this request" in response.json()["detail"]
    assert "label" not in response.text
    assert hashlib.sha256(b"of another patient").hexdigest() not in response.text
    assert DISCARDED._value.get() == before + 1
    (record,) = (record for record in caplog.records if "another image" in record.getMessage())
    assert record.request_id == "id-7"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["form with several files", "JSON in gzip", "instances", "zip", "zip with hidden files"]
)
def test_swapped_results_never_reach_the_user(name: str) -> None:
    assert post(changed(swapped), **BODIES[name]).status_code == 502


@pytest.mark.parametrize("number", [1, 3])
def test_other_number_of_results_never_reaches_the_user(number: int) -> None:
    results = [prediction(image) for image in (ONE, TWO, THREE)[:number]]
    response = post(lambda _: json_response({"predictions": results}), content=instances(ONE, TWO), headers=JSON)
    assert response.status_code == 502, response.text


@pytest.mark.parametrize(
    ("path", "model"), [(PATH, {"name": "brain"}), (f"{PATH}/1.0.0", {"version": "2.0.0"}), (f"{PATH}/1.0.1", {})]
)
def test_response_of_another_model_never_reaches_the_user(path: str, model: dict[str, str]) -> None:
    document = prediction(ONE)
    document["model"] |= model
    assert post(lambda _: json_response(document), path, content=ONE).status_code == 502


def test_missing_result_of_a_zip_never_reaches_the_user() -> None:
    result = prediction(ONE) | {"name": "scan/slice_9.png"}
    response = post(lambda _: json_response({"predictions": [result]}), content=zipped(ONE, TWO))
    assert response.status_code == 502, response.text


def test_discarded_response_is_not_recorded(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> None:
        async with running_client(services(FakeBackend(changed(other_image)), history=history)) as client:
            assert (await client.post(PATH, content=ONE)).status_code == 502
            assert (await client.get("/api/results")).json()["results"] == []

    asyncio.run(work())


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 100_000,
        b'{"instances": [' + b"1," * 1_000_000 + b"1]}",
        b"PK\x03\x04" + b"PK\x01\x02" * 1_000_000,
        zipped(ONE)[:-30],
    ],
)
def test_response_to_a_body_without_readable_images_is_discarded(body: bytes) -> None:
    assert post(lambda _: json_response(prediction(ONE)), content=body).status_code == 502


def test_several_headers_of_assurances_are_rejected() -> None:
    lines = [("X-Assurances", "age=5"), ("X-Assurances", "view=PA")]
    response = post(respond, content=ONE, headers=lines)
    assert response.status_code == 400
    assert "several X-Assurances headers" in response.json()["detail"]
    assert post(respond, content=ONE, headers=lines[:1]).status_code == 200


@pytest.mark.parametrize(
    ("query", "header", "sent"),
    [
        ("?prevalence=0.02", "", "prevalence=0.02"),
        ("?prevalence=0.000001", "age=5", "age=5, prevalence=0.000001"),
        ("?prevalence=.0010", "", "prevalence=.0010"),
        ("", "age=5, prevalence=0.1", "age=5, prevalence=0.1"),
    ],
)
def test_a_prevalence_of_the_query_is_added_to_the_assurances(query: str, header: str, sent: str) -> None:
    requests: list[ModelRequest] = []

    def recording(request: ModelRequest) -> ModelResponse:
        requests.append(request)
        return respond(request)

    assert post(recording, f"{PATH}{query}", content=ONE, headers={"X-Assurances": header}).status_code == 200
    assert requests[0].assurances == sent


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("prevalence=0", 422),
        ("prevalence=1", 422),
        ("prevalence=nan", 422),
        ("prevalence=1e-3", 422),
        ("prevalence=%2B0.1", 422),
        ("prevalence=0.1.2", 422),
        (f"prevalence=0.1{62 * '0'}", 422),
        ("prevalence=", 422),
        ("prevalence=2%25", 422),
        ("prevalence=0.1&prevalence=0.1", 400),
    ],
)
def test_an_invalid_prevalence_of_the_query_is_rejected(query: str, status: int) -> None:
    response = post(respond, f"{PATH}?{query}", content=ONE)
    assert response.status_code == status
    assert "prevalence" in response.json()["detail"]


def repaired(request: ModelRequest) -> ModelResponse:
    return json_response(prediction(ONE, repair=request.repair or "invert"))


def test_a_repair_of_query_header_or_form_reaches_the_server() -> None:
    form: dict[str, Any] = {"files": [("file", ("a.png", ONE, "image/png"))]}
    assert post(repaired, f"{PATH}?repair=rotate-90", content=ONE).json()["repair"] == "rotate-90"
    assert post(repaired, f"{PATH}?repair=rotate-270", **form).json()["repair"] == "rotate-270"
    assert post(repaired, data={"repair": "rotate-180"}, **form).json()["repair"] == "rotate-180"
    header = {"X-Repair": "rotate-180"}
    assert post(repaired, content=ONE, headers=header).json()["repair"] == "rotate-180"
    body = json.dumps({"image": base(ONE), "repair": "invert"}).encode()
    assert post(repaired, content=body, headers=JSON).json()["repair"] == "invert"


@pytest.mark.parametrize("query", ["repair=mirror", "repair=invert&repair=invert"])
def test_an_invalid_repair_is_rejected_with_the_valid_ones(query: str) -> None:
    response = post(respond, f"{PATH}?{query}", content=ONE)
    assert response.status_code == 400
    assert "rotate-90, rotate-180, rotate-270, invert" in response.json()["detail"]


def test_two_repairs_are_rejected() -> None:
    response = post(repaired, f"{PATH}?repair=invert", content=ONE, headers={"X-Repair": "rotate-90"})
    assert response.status_code == 400
    assert "2 repairs" in response.json()["detail"]


@pytest.mark.parametrize("repair", [None, "rotate-90"])
def test_a_result_with_a_repair_that_was_not_asked_for_is_discarded(repair: str | None) -> None:
    body = json.dumps({"image": base(ONE), "repair": repair}).encode()
    assert post(repaired, content=body, headers=JSON).status_code == 502
    assert post(repaired, content=ONE).status_code == 502


def test_a_result_of_an_image_that_was_not_repaired_is_discarded() -> None:
    assert post(lambda _: json_response(prediction(ONE)), f"{PATH}?repair=invert", content=ONE).status_code == 502


def test_a_picture_keeps_the_comparison_and_the_repair_of_its_image() -> None:
    headers = {"X-Domain": "strict; unusual", "X-Repair": "invert"}
    picture = ModelResponse(200, "image/png", b"\x89PNG", headers=headers)
    response = post(lambda _: picture, f"{PATH}?repair=invert", content=ONE, headers={"Accept": "image/png"})
    assert {name: response.headers[name] for name in headers} == headers


UNLIKE = {"mode": "strict", "status": "unlike", "score": 3.0, "percentile": 100.0, "reason": "rotated_90"}


def test_the_rejection_of_an_unlike_image_keeps_its_comparison() -> None:
    problem = {"status": 422, "title": "Unlike the training images", "detail": "Turn it.", "domain": UNLIKE}
    response = post(lambda _: json_response(problem, 422, "application/problem+json"), content=ONE)
    assert response.status_code == 422
    assert response.json() | {"request_id": ""} == problem | {"request_id": ""}


@pytest.mark.parametrize(
    ("domain", "stored"), [(UNLIKE | {"mode": "warn"}, "unlike"), ({"mode": "off"}, "off"), (..., None)]
)
def test_the_history_has_status_and_repair(tmp_path: Path, domain: object, stored: str | None) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")
    backend = FakeBackend(lambda request: json_response(prediction(ONE, domain=domain, repair=request.repair)))

    async def work() -> None:
        async with running_client(services(backend, history=history)) as client:
            assert (await client.post(f"{PATH}?repair=invert", content=ONE)).json()["history"] == "kept"
            (entry,) = (await client.get("/api/results")).json()["results"]
            assert (entry["domain"], entry["repair"]) == (stored, "invert")
            rows = (await client.get("/api/results.csv")).text
            assert "domain,repair" in rows

    asyncio.run(work())
