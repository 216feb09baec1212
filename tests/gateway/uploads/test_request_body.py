"""Reading of request bodies."""

import asyncio
import base64
import json
from typing import Any

import httpx

from gateway.settings import Settings
from tests.gateway.application import running_client, services
from tests.gateway.fake_backend import FakeBackend

PATH = "/api/predictions/chest"


def ask(backend: FakeBackend, settings: Settings | None = None, **request: Any) -> httpx.Response:
    """Post one request."""

    async def post() -> httpx.Response:
        async with running_client(services(backend, settings)) as client:
            return await client.post(PATH, **request)

    return asyncio.run(post())


def test_image_is_forwarded_unchanged_with_headers() -> None:
    backend = FakeBackend()
    headers = {
        "Content-Type": "image/png",
        "Content-Encoding": "gzip",
        "Accept": "image/png;view=mask",
        "X-Client-Id": "a",
    }
    ask(backend, content=b"film", headers=headers | {"X-Request-Id": "r-1"})
    (result,) = backend.requests
    assert (result.body, result.media_type, result.encoding) == (b"film", "image/png", "gzip")
    assert (result.verb, result.model, result.version, result.client) == ("predictions", "chest", None, "a")
    assert (result.accept, result.request_id) == ("image/png;view=mask", "r-1")


def test_form_with_one_file_equals_plain_body() -> None:
    backend = FakeBackend()
    response = ask(backend, files={"anything": ("film.png", b"film", "image/png")})
    assert (backend.requests[0].body, backend.requests[0].media_type) == (b"film", "image/png")
    assert (response.status_code, response.json()["filename"]) == (200, "film.png")


def test_form_with_several_files_is_one_request_in_order() -> None:
    backend = FakeBackend()
    files = [("file", ("a.png", b"first")), ("file", ("b.png", b"second"))]
    response = ask(backend, files=files)
    document = json.loads(backend.requests[0].body)
    assert [base64.b64decode(item["b64"]) for item in document["instances"]] == [b"first", b"second"]
    assert backend.requests[0].media_type == "application/json"
    assert [item["filename"] for item in response.json()["predictions"]] == ["a.png", "b.png"]


def test_json_body_is_forwarded_unchanged() -> None:
    backend = FakeBackend()
    ask(backend, json={"image": "aGk="})
    assert json.loads(backend.requests[0].body) == {"image": "aGk="}
    assert backend.requests[0].media_type == "application/json"


def test_invalid_body_error_gives_advice() -> None:
    for request, status, result in (
        ({"content": b""}, 400, "The body is empty"),
        ({"data": {"a": "b"}}, 415, "curl -T FILE"),
        ({"files": {"file": ("x", b"x")}, "headers": {"Content-Encoding": "gzip"}}, 415, "Compressed forms"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "Invalid form"),
        ({"content": b"--a--", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}, 400, "has no file"),
        ({"json": {"url": 1}}, 400, '"url" must have no other key'),
        ({"json": {"object": "a", "image": "b"}}, 400, '"object" must have no other key'),
        ({"json": {"url": "https://x"}}, 400, "Fetching URLs is disabled"),
        ({"json": {"object": "k"}}, 400, "Uploads are disabled"),
    ):
        backend = FakeBackend()
        response = ask(backend, **request)
        assert (response.status_code, backend.requests) == (status, []), response.text
        assert result in response.json()["detail"]
