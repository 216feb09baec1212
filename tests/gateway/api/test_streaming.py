"""Predictions as events, which have the results of the JSON response."""

import asyncio
import gzip
import io
import json
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.backends.base import ModelRequest, ModelResponse
from gateway.history.sqlite import SqliteHistory
from gateway.metrics import REGISTRY
from tests.gateway.api.test_predictions import BODIES, JSON, ONE, PATH, THREE, TWO, base, encoded, instances, zipped
from tests.gateway.application import gateway, running_client, services, serving
from tests.gateway.fake_backend import FakeBackend, json_response, prediction, respond
from tests.handlers.images import dicom, film

EVENTS = {"Accept": "text/event-stream"}
Event = tuple[str, Any]


def events(text: str) -> Iterator[Event]:
    """Yield the events of a stream, without comments."""
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            event, data = block.split("\n")
            yield event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def post(backend: FakeBackend, path: str = PATH, headers: dict[str, str] = EVENTS, **request: Any) -> httpx.Response:
    async def work() -> httpx.Response:
        async with running_client(services(backend)) as client:
            return await client.post(path, headers=headers, **request)

    return asyncio.run(work())


def streamed(script: Callable[[ModelRequest], ModelResponse] = respond, **request: Any) -> list[Event]:
    """Return the events of a request to a scripted server."""
    response = post(FakeBackend(script), headers=request.pop("headers", {}) | EVENTS, **request)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert response.headers["x-accel-buffering"] == "no"
    return list(events(response.text))


def comparable(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item without what differs between two requests."""
    return {key: value for key, value in item.items() if key not in ("id", "time", "history")}


@pytest.mark.parametrize("verb", ["predictions", "explanations"])
def test_events_have_the_results_of_the_json_response(verb: str) -> None:
    bzip2 = io.BytesIO()
    with zipfile.ZipFile(bzip2, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", ONE)

    async def work() -> None:
        async with running_client(services()) as client:
            for request in (*BODIES.values(), {"content": bzip2.getvalue()}):
                path, headers = f"/api/{verb}/chest", request.get("headers", {})
                document = (await client.post(path, **request)).json()
                stream = await client.post(path, **request | {"headers": headers | EVENTS})
                verify([*events(stream.text)], [comparable(item) for item in document.get("predictions", [document])])

    asyncio.run(work())


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("Text/Event-Stream; q=1.0, */*", "text/event-stream; charset=utf-8"),
        ("application/json;q=0.5, text/event-stream", "text/event-stream; charset=utf-8"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream;q=0.1, application/json", "application/json"),
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream;q=x, application/json", "application/json"),
    ],
)
def test_events_are_sent_only_to_a_client_that_prefers_them(accept: str, media_type: str) -> None:
    assert post(FakeBackend(), headers={"Accept": accept}, content=ONE).headers["content-type"] == media_type


def verify(received: list[Event], expected: list[dict[str, Any]]) -> None:
    items = {data["index"]: data for event, data in received if event in ("prediction", "rejection")}
    assert [comparable(items[index]["result"]) for index in range(len(items))] == expected
    assert [items[index]["name"] for index in range(len(items))] == [item.get("filename") for item in expected]
    progress = [data["done"] for event, data in received if event == "progress"]
    assert progress == list(range(1, len(expected) + 1))
    rejections = sum("label" not in item for item in expected)
    counts = {"total": len(expected), "predictions": len(expected) - rejections, "rejections": rejections}
    assert (received[0][0], received[0][1]["total"], received[-1]) == ("accepted", len(expected), ("done", counts))


def test_what_is_stated_reaches_the_server_with_each_image() -> None:
    backend = FakeBackend()
    body: dict[str, Any] = {
        "instances": [{"b64": base(ONE), "assurances": {"age": 5}}, {"b64": base(TWO)}],
        "assurances": {"view": "PA"},
    }
    response = post(backend, f"{PATH}/1.0.0?prevalence=0.2", EVENTS | {"X-Request-Id": "id-7"}, json=body)
    assert [event for event, _ in events(response.text)][-1] == "done"
    sent = {json.dumps(json.loads(item.body)["instances"][0]): item for item in backend.requests}
    assert sorted(sent) == sorted(map(json.dumps, body["instances"]))
    for item in sent.values():
        assert json.loads(item.body)["assurances"] == {"view": "PA"}
        assert (item.version, item.assurances, item.accept) == ("1.0.0", "prevalence=0.2", "application/json")
        assert (item.client, item.request_id) == ("id-7", "id-7")  # one version answers all images


def test_a_repair_of_the_form_reaches_the_server() -> None:
    backend = FakeBackend(lambda request: json_response({"predictions": []}))
    files = [("file", (f"{n}.png", image)) for n, image in enumerate((ONE, TWO))]
    post(backend, files=files, data={"repair": "invert"})
    assert {request.repair for request in backend.requests} == {"invert"}


@pytest.mark.parametrize(
    ("path", "request_", "status"),
    [
        (f"{PATH}?repair=mirror&repair=invert", {"content": ONE}, 400),
        (PATH, {"content": b"{ not JSON"}, 400),
        (PATH, {"content": zipped(ONE)[:-30]}, 400),
        (PATH, {"content": gzip.compress(ONE)[:-9], "headers": encoded("gzip")}, 400),
        (PATH, {"content": zlib.compress(ONE)[:-5], "headers": encoded("deflate")}, 400),
        (PATH, {"content": ONE, "headers": encoded("gzip")}, 400),
        (PATH, {"content": ONE, "headers": encoded("br")}, 415),
        (PATH, {"content": ONE, "headers": encoded("zstd")}, 415),
        (PATH, {"content": zipped()}, 400),
        (PATH, {"content": b"", "headers": {}}, 400),
        (PATH, {"content": instances(*[b""] * 161), "headers": JSON}, 413),
        (PATH, {"content": zipped(*[ONE] * 161)}, 413),
        ("/api/predictions/other", {"content": ONE}, 404),
        (f"{PATH}/2.0.0", {"content": ONE}, 404),
        (f"{PATH}/files", {"content": ONE}, 415),
        (f"{PATH}/3.0.0", {"content": ONE}, 503),
    ],
)
def test_a_request_that_is_rejected_as_a_whole_has_its_status(path: str, request_: dict[str, Any], status: int) -> None:
    def script(request: ModelRequest) -> ModelResponse:
        """Reject other models and versions; TorchServe sends 503 for a version without workers."""
        if request.model != "chest" or request.version == "2.0.0":
            return ModelResponse(404, "", b"")
        return ModelResponse(503, "", b"") if request.version == "3.0.0" else respond(request)

    response = post(FakeBackend(script), path, **request_ | {"headers": request_.get("headers", {}) | EVENTS})
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    "body",
    [{"instances": [{"b64": base(ONE)}] * 9, "other": 1}, {"image": base(ONE), "instances": [{"b64": base(ONE)}]}],
)
def test_a_fault_of_the_whole_request_that_the_server_finds_has_its_status(body: dict[str, Any]) -> None:
    backend = FakeBackend()
    response = post(backend, json=body)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.json()["detail"] == post(backend, json=body, headers={}).json()["detail"]


def test_a_fault_that_the_server_finds_after_a_comment_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.event_stream.KEEP_ALIVE_SECONDS", 0.05)

    class Slow(FakeBackend):
        async def infer(self, request: ModelRequest) -> ModelResponse:
            await asyncio.sleep(0.5)
            return ModelResponse(404, "", b"")

    response = post(Slow(), content=ONE)
    assert (response.status_code, response.text.startswith(": keep-alive")) == (200, True)
    received = list(events(response.text))
    assert [event for event, _ in received] == ["accepted", "error"]
    assert received[-1][1]["status"] == 404


def test_a_request_that_only_the_server_can_read_is_an_error_and_is_not_recorded(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> None:
        body = b"[1]"
        backend = FakeBackend(lambda _: json_response(prediction(body)))
        async with running_client(services(backend, history=history)) as client:
            response = await client.post(PATH, content=body, headers=EVENTS)
            assert (response.status_code, response.json()["detail"]) == (
                500,
                "The gateway cannot split this request into images; request application/json.",
            )
            assert (await client.get("/api/results")).json()["results"] == []

    asyncio.run(work())


def of_version(request: ModelRequest, version: str) -> ModelResponse:
    """Return a response of the version that the request names, or of the default version."""
    return respond(replace(request, version=request.version or version))


def test_all_images_get_the_version_of_the_first_result() -> None:
    backend = FakeBackend(lambda request: of_version(request, "1.0.0" if len(backend.requests) < 5 else "2.0.0"))
    received = list(events(post(backend, content=instances(*[ONE] * 9), headers=EVENTS | JSON).text))
    assert received[-1] == ("done", {"total": 9, "predictions": 9, "rejections": 0})
    assert {request.version for request in backend.requests[:4]} == {None}


def test_results_of_two_versions_are_an_error() -> None:
    class Changing(FakeBackend):
        async def infer(self, request: ModelRequest) -> ModelResponse:
            """Respond to two requests with two versions when both have arrived."""
            self.requests.append(request)
            number = len(self.requests)
            while len(self.requests) < 2:  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(0.01)
            return of_version(request, f"{number}.0.0")

    received = list(events(post(Changing(), content=instances(ONE, TWO), headers=EVENTS | JSON).text))
    assert [event for event, _ in received if event in ("prediction", "done")] == ["prediction"]
    assert (received[-1][0], received[-1][1]["status"]) == ("error", 503)
    assert "version of the model changed" in received[-1][1]["detail"]


def test_a_damaged_member_of_a_zip_is_one_rejection() -> None:
    content = zipped(ONE, TWO)
    damaged = content.replace(content[content.index(b"slice_10.png") + 12 :][:4], b"\xff\xff\xff\xff", 1)
    received = streamed(content=damaged)
    (rejection,) = (data for event, data in received if event == "rejection")
    assert (rejection["name"], rejection["result"]["detail"]) == (
        "scan/slice_10.png",
        "This zip entry is damaged; create the zip again.",
    )
    assert received[-1][1] == {"total": 2, "predictions": 1, "rejections": 1}


def test_an_error_of_the_server_ends_the_stream_with_its_problem() -> None:
    sent: list[ModelRequest] = []

    def script(request: ModelRequest) -> ModelResponse:
        sent.append(request)
        return respond(request) if len(sent) < 3 else ModelResponse(504, "text/plain", b"")

    received = streamed(script, content=instances(*[ONE] * 40), headers=JSON)
    assert (received[-1][0], received[-1][1]["status"]) == ("error", 502)
    assert received[-1][1]["request_id"] == received[0][1]["request_id"]
    assert len(sent) < 10


def test_a_result_of_another_image_is_never_sent() -> None:
    other = json.loads(respond(ModelRequest("predictions", "chest", None, THREE)).body)
    received = streamed(lambda _: json_response({"predictions": [other]}), content=instances(ONE, TWO), headers=JSON)
    assert [event for event, _ in received] == ["accepted", "error"]
    assert "not about the images of this request" in received[-1][1]["detail"]


def test_an_image_with_several_frames_is_a_rejection() -> None:
    received = streamed(content=instances(dicom(film(), NumberOfFrames=2), ONE), headers=JSON)
    (rejection,) = [data for event, data in received if event == "rejection"]
    assert (rejection["index"], rejection["result"]["status"]) == (0, 415)
    assert "several frames" in rejection["result"]["detail"]
    assert [data["index"] for event, data in received if event == "prediction"] == [1]


def test_a_bug_is_an_error_without_its_message_and_counts_as_one(caplog: pytest.LogCaptureFixture) -> None:
    def script(request: ModelRequest) -> ModelResponse:
        raise ZeroDivisionError("secret")

    def failed() -> float:
        labels = {"route": "/api/predictions/{name}", "method": "POST", "status": "500"}
        return REGISTRY.get_sample_value("radserve_gateway_requests_total", labels) or 0.0

    before = failed()
    received = streamed(script, content=ONE)
    assert failed() == before + 1
    assert (received[-1][0], received[-1][1]["status"]) == ("error", 500)
    assert "secret" not in json.dumps(received)
    assert "ZeroDivisionError: secret" in caplog.text


def test_an_image_is_sent_again_to_a_busy_server() -> None:
    busy = [ModelResponse(503, "application/json", b"{}", retry_after="0"), ModelResponse(429, "", b"", "0")]
    received = streamed(lambda request: busy.pop() if busy else respond(request), content=ONE)
    assert received[-1] == ("done", {"total": 1, "predictions": 1, "rejections": 0})


def test_an_image_is_sent_again_only_after_the_pause_that_the_server_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api.streaming._MAX_PAUSE", 1)
    busy = [ModelResponse(503, "", b"", retry_after=seconds) for seconds in ("2", "1")]
    start = time.monotonic()
    received = streamed(lambda request: busy.pop() if busy else respond(request), content=ONE)
    assert (received[-1][0], received[-1][1]["status"]) == ("error", 503)
    assert (time.monotonic() - start >= 1, busy) == (True, [])


def test_every_prediction_has_a_row_in_the_history(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.sqlite3")

    async def work() -> None:
        async with running_client(services(FakeBackend(), history=history)) as client:
            body = {"instances": [{"b64": base(ONE)}, {"b64": "?"}, {"b64": base(TWO)}]}
            received = list(events((await client.post(PATH, json=body, headers=EVENTS)).text))
            predictions = [data for event, data in received if event == "prediction"]
            assert {item["history"] for item in predictions} == {"kept"}
            rows = (await client.get("/api/results")).json()["results"]
            assert {row["id"] for row in rows} == {item["result"]["id"] for item in predictions}
            assert len({row["request_id"] for row in rows}) == 1

    asyncio.run(work())


class HeldBackend(FakeBackend):
    """Responds to the first image at once, and to the others after `release`; counts those that are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.responses = 0
        self.cancelled = 0

    async def infer(self, request: ModelRequest) -> ModelResponse:
        self.requests.append(request)
        if len(self.requests) > 1:
            await self._hold()
        self.responses += 1
        return respond(request)

    async def _hold(self) -> None:
        try:
            while not self.release.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def test_events_arrive_while_other_images_are_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.event_stream.KEEP_ALIVE_SECONDS", 0.05)
    backend, body = HeldBackend(), instances(ONE, TWO)
    with (
        serving(gateway(backend=backend)) as address,
        httpx.stream("POST", f"http://{address}{PATH}", content=body, headers=JSON | EVENTS) as response,
    ):
        lines = response.iter_lines()
        seen: list[str] = []
        while not {"event: progress", ": keep-alive"} <= set(seen):
            seen.append(next(lines))
        assert backend.responses == 1
        backend.release.set()
        assert [line for line in lines if line.startswith("event:")][-1] == "event: done"


def test_a_client_that_disconnects_cancels_the_other_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.event_stream.KEEP_ALIVE_SECONDS", 0.05)
    backend, body = HeldBackend(), instances(*[ONE] * 40)
    with serving(gateway(backend=backend)) as address:
        with httpx.stream("POST", f"http://{address}{PATH}", content=body, headers=JSON | EVENTS) as response:
            lines = response.iter_lines()
            while len(backend.requests) < 5:  # the first one, and four that are held
                next(lines)
        deadline = time.monotonic() + 10
        while backend.cancelled < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert (len(backend.requests), backend.responses, backend.cancelled) == (5, 1, 4)
