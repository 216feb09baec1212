"""Tests of radserve.versions.read_only."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from radserve.versions.control_api import application
from radserve.versions.read_only import ReadOnly


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/versions", 200),
        ("HEAD", "/versions", 200),
        ("POST", "/deployment/diff", 200),
        ("PUT", "/deployment", 501),
        ("POST", "/versions", 501),
        ("DELETE", "/versions", 501),
        ("GET", "/models", 501),
        ("GET", "/unknown", 404),
    ],
)
def test_only_reading_requests_to_the_control_api_pass(method: str, path: str, status: int) -> None:
    def show(_: object) -> PlainTextResponse:
        return PlainTextResponse("")

    paths = ("/versions", "/models", "/deployment", "/deployment/diff")
    app = application(*(Route(name, show, methods=["GET", "POST", "PUT", "DELETE"]) for name in paths))
    app.add_middleware(ReadOnly)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control") as client:
            return await client.request(method, path)

    response = asyncio.run(send())
    assert response.status_code == status
    if status == 501:
        assert "--engine torchserve" in response.json()["detail"]
