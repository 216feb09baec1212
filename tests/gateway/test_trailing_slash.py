"""Paths of the API with a trailing slash."""

import asyncio

import httpx
import pytest

from tests.gateway.application import client, gateway

ADDRESSES = ("http://127.0.0.1:8000", "https://hospital.example/ai/radserve")
"""Of the gateway, and of a proxy that removes a prefix."""


def ask(method: str, path: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with client(gateway()) as http:
            return await http.request(method, path, content=b"film" if method == "POST" else None)

    return asyncio.run(send())


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/api/models", ""),
        ("HEAD", "/api/models", ""),
        ("GET", "/api/results", "?limit=5&text=a%20b"),
        ("GET", "/api/docs", ""),
        ("POST", "/api/predictions/chest", "?repair=invert"),
        ("POST", "/api/predictions/b%3Fc%3A", ""),
        ("GET", "/v2", ""),
    ],
)
def test_the_redirect_leads_to_the_path_without_it_below_any_prefix(
    address: str, method: str, path: str, query: str
) -> None:
    response = ask(method, f"{path}/{query}")
    assert response.status_code == 307
    target = httpx.URL(f"{address}{path}/{query}").join(response.headers["Location"])
    assert str(target) == f"{address}{path}{query}"


@pytest.mark.parametrize("path", ["/api/", "/api/results//", "//example.com/", "/css/", "/api/unknown/"])
def test_other_paths_are_not_redirected(path: str) -> None:
    assert ask("GET", f"http://127.0.0.1:8000{path}").status_code == 404


def test_the_page_remains_at_its_slash() -> None:
    assert ask("GET", "/").headers["content-type"].startswith("text/html")
