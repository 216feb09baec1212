"""What a request's body is taken for."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx

from gateway.settings import Settings
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend, json_response, prediction

PATH = "/api/predictions/chest"


def ask(backend: FakeBackend, settings: Settings | None = None, **request: Any) -> httpx.Response:
    """Post one request."""

    async def post() -> httpx.Response:
        async with running_client(services(backend, settings)) as client:
            return await client.post(PATH, **request)

    return asyncio.run(post())


def several(count: int) -> FakeBackend:
    return FakeBackend(lambda _: json_response({"predictions": [prediction(bytes([n])) for n in range(count)]}))


def test_an_image_goes_on_as_it_is_with_what_describes_it() -> None:
    backend = FakeBackend()
    headers = {
        "Content-Type": "image/png",
        "Content-Encoding": "gzip",
        "Accept": "image/png;view=mask",
        "X-Client-Id": "a",
    }
    ask(backend, content=b"film", headers=headers | {"X-Request-Id": "r-1"})
    (asked,) = backend.requests
    assert (asked.body, asked.media_type, asked.encoding) == (b"film", "image/png", "gzip")
    assert (asked.verb, asked.model, asked.version, asked.client) == ("predictions", "chest", None, "a")
    assert (asked.accept, asked.request_id) == ("image/png;view=mask", "r-1")


def test_a_form_with_one_file_is_answered_like_the_file_alone() -> None:
    backend = FakeBackend()
    answer = ask(backend, files={"anything": ("film.png", b"film", "image/png")})
    assert (backend.requests[0].body, backend.requests[0].media_type) == (b"film", "image/png")
    assert (answer.status_code, answer.json()["filename"]) == (200, "film.png")


def test_a_form_with_several_files_is_one_question_and_an_answer_each_in_order() -> None:
    backend = several(2)
    files = [("file", ("a.png", b"first")), ("file", ("b.png", b"second"))]
    answer = ask(backend, files=files)
    document = json.loads(backend.requests[0].body)
    assert [base64.b64decode(item["b64"]) for item in document["instances"]] == [b"first", b"second"]
    assert backend.requests[0].media_type == "application/json"
    assert [item["filename"] for item in answer.json()["predictions"]] == ["a.png", "b.png"]


def test_json_of_the_server_goes_on_as_it_is() -> None:
    backend = FakeBackend()
    ask(backend, json={"image": "aGk="})
    assert json.loads(backend.requests[0].body) == {"image": "aGk="}
    assert backend.requests[0].media_type == "application/json"


def test_too_many_files_are_413_and_nobody_is_asked() -> None:
    backend = several(3)
    files = [("file", (f"{n}.png", b"x")) for n in range(3)]
    answer = ask(backend, Settings.read(max_files=2), files=files)
    assert answer.status_code == 413
    assert "more than 2 files" in answer.json()["detail"]
    assert backend.requests == []


def test_a_body_that_is_too_long_is_413_also_where_it_does_not_say_how_long() -> None:
    async def pieces() -> Any:
        for _ in range(3):
            yield b"x" * 1000

    for content in (b"x" * 3000, pieces()):
        backend = FakeBackend()
        answer = ask(backend, Settings.read(max_bytes=2048), content=content)
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert "2048 bytes" in answer.json()["detail"]
        assert backend.requests == []


def test_what_cannot_be_read_says_what_to_send() -> None:
    for request, status, said in (
        ({"content": b""}, 400, "The body is empty"),
        ({"data": {"a": "b"}}, 415, "curl -T FILE"),
        ({"files": {"file": ("x", b"x")}, "headers": {"Content-Encoding": "gzip"}}, 415, "compressed form"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "form cannot be read"),
        ({"content": b"--a--", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}, 400, "has no file"),
        ({"json": {"url": 1}}, 400, 'the one key "url"'),
        ({"json": {"object": "a", "image": "b"}}, 400, 'the one key "object"'),
        ({"json": {"url": "https://x"}}, 400, "fetches from no host"),
        ({"json": {"object": "k"}}, 400, "takes no uploads"),
    ):
        backend = FakeBackend()
        answer = ask(backend, **request)
        assert (answer.status_code, backend.requests) == (status, []), answer.text
        assert said in answer.json()["detail"]
