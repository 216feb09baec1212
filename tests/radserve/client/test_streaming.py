"""`stream` of both clients, against a gateway with a scripted server behind it, and against broken streams."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.backends.base import ModelRequest, ModelResponse
from gateway.settings import Settings
from radserve.client import AsyncClient, Client
from radserve.client.predictions import Result
from radserve.errors import ClientError, InvalidCallError, InvalidResponseError, RejectedRequestError, ServerFailedError
from radserve.schema.prediction import Prediction
from radserve.schema.problem import RejectedImage
from tests.gateway.api.test_streaming import HeldBackend
from tests.gateway.application import gateway, serving
from tests.gateway.fake_backend import FakeBackend, json_response, respond
from tests.radserve.scripted import Reply, Scripted, prediction

IMAGES = [b"one", b"two", b"bad", b"three"]
Stream = Callable[..., Iterator[tuple[int, Result]]]


def collected(url: str, *arguments: Any, max_bytes: int = 2**20, **stated: Any) -> list[tuple[int, Result]]:
    """Return what the client yields."""
    with Client(url, retries=0, max_bytes=max_bytes) as client:
        return list(client.stream(*arguments, **stated))


def collected_async(url: str, *arguments: Any, max_bytes: int = 2**20, **stated: Any) -> list[tuple[int, Result]]:
    """Return what the client for asyncio yields."""

    async def work() -> list[tuple[int, Result]]:
        async with AsyncClient(url, retries=0, max_bytes=max_bytes) as client:
            return [item async for item in client.stream(*arguments, **stated)]

    return asyncio.run(work())


@pytest.fixture(params=[collected, collected_async])
def stream(request: pytest.FixtureRequest) -> Any:
    return request.param


def script(request: ModelRequest) -> ModelResponse:
    """Reject the image "bad"."""
    if b"YmFk" in request.body:
        rejection = {"status": 422, "title": "No contrast", "detail": "The image is black."}
        return json_response({"predictions": [rejection]})
    return respond(request)


def test_every_image_has_a_result_with_its_index(stream: Stream) -> None:
    backend = FakeBackend(script)
    with serving(gateway(backend=backend)) as address:
        items = dict(stream(f"http://{address}", "chest", iter(IMAGES), "1.0.0", prevalence=0.2))
    assert [type(items[index]) for index in range(4)] == [Prediction, Prediction, RejectedImage, Prediction]
    assert {request.assurances for request in backend.requests} == {"prevalence=0.200000"}


def test_an_image_that_is_too_large_is_a_rejection_among_the_others(stream: Stream) -> None:
    with serving(gateway(settings=Settings.read(max_bytes=1024))) as address:
        url = f"http://{address}"
        items = dict(stream(url, "chest", [b"one", bytes(9999), b"two"], max_bytes=20))
        assert [type(items[index]) for index in range(3)] == [Prediction, RejectedImage, Prediction]
        ((index, item),) = stream(url, "chest", [bytes(9999)])
        items = dict(stream(url, "chest", [b"one", bytes(9999), b"two"]))  # too large together
        assert [type(items[index]) for index in range(3)] == [Prediction, RejectedImage, Prediction]
    assert (index, type(item)) == (0, RejectedImage)


def test_errors_are_those_of_a_prediction(stream: Stream) -> None:
    unknown = gateway(backend=FakeBackend(lambda _: ModelResponse(404, "", b"")))
    with serving(unknown) as address, pytest.raises(RejectedRequestError, match="Unknown model"):
        stream(f"http://{address}", "other", IMAGES)
    failing = gateway(backend=FakeBackend(lambda _: ModelResponse(500, "", b"")))
    with serving(failing) as address, pytest.raises(ServerFailedError, match="502"):
        stream(f"http://{address}", "chest", IMAGES)


def test_a_server_has_no_streams(odd: Scripted, stream: Stream) -> None:
    with pytest.raises(InvalidCallError, match="only a gateway has history, uploads and streams"):
        stream(odd.url, "chest", IMAGES)


def test_text_with_separators_of_lines_arrives(stream: Stream) -> None:
    detail = "The image\u2028is\x85too \u2029dark."
    backend = FakeBackend(
        lambda _: json_response({"predictions": [{"status": 422, "title": "Dark", "detail": detail}]})
    )
    with serving(gateway(backend=backend)) as address:
        ((_, item),) = stream(f"http://{address}", "chest", [b"one"])
    assert isinstance(item, RejectedImage)
    assert item.detail == detail


def event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


ODD = (200, 99, 600, True, "503")
FIRST = event("prediction", {"index": 0, "name": None, "result": prediction(b"one")})
OTHER = event("prediction", {"index": 1, "name": None, "result": prediction(b"one")})


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (FIRST, InvalidResponseError),
        (FIRST + event("done", {}), InvalidResponseError),
        (FIRST + OTHER, InvalidResponseError),
        (FIRST + FIRST, InvalidResponseError),
        (event("prediction", {"index": 7}), InvalidResponseError),
        (event("prediction", []), InvalidResponseError),
        ("event: prediction\ndata: {\n\n", InvalidResponseError),
        ("event: error\ndata: [\n\n", InvalidResponseError),
        *((event("error", {"status": status, "title": "a", "detail": "b"}), InvalidResponseError) for status in ODD),
        (event("error", {"status": 503, "title": "Busy", "detail": "Wait."}), ServerFailedError),
    ],
)
def test_a_broken_stream_is_an_error(odd: Scripted, stream: Stream, text: str, kind: type[ClientError]) -> None:
    odd.live = Reply(body=b'{"service": "radserve-gateway"}')
    odd.say(Reply(body=text.encode(), media_type="text/event-stream; charset=utf-8"))
    with pytest.raises(kind):
        stream(odd.url, "chest", [b"one", b"two"])


def test_results_arrive_one_by_one_and_closing_the_iterator_cancels_the_rest() -> None:
    backend = HeldBackend()
    with serving(gateway(backend=backend)) as address, Client(f"http://{address}") as client:
        items = client.stream("chest", [str(number).encode() for number in range(40)])
        _, result = next(items)
        assert isinstance(result, Prediction)
        items.close()
        deadline = time.monotonic() + 10
        while backend.cancelled == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(backend.requests) <= 5
    assert (backend.responses, backend.cancelled) == (1, len(backend.requests) - 1)
