"""Tests of gateway.uploads.url_fetcher, with a TLS web server on the loopback interface."""

import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.errors import (
    BadGatewayError,
    ContentTooLargeError,
    GatewayTimeoutError,
    NotAllowedError,
    ProblemError,
)
from gateway.uploads.request_body import RequestBody
from gateway.uploads.url_fetcher import UrlFetcher, is_public_address
from tests.authority import Authority
from tests.gateway.application import client, gateway
from tests.gateway.fake_backend import FakeBackend
from tests.gateway.uploads import image_host
from tests.gateway.uploads.fetching import METADATA, Names, fetched, settings
from tests.gateway.uploads.image_host import SECRET, Host


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    with image_host.running(authority) as number:
        yield number


@pytest.fixture
def local(port: int, authority: Authority) -> UrlFetcher:
    """Return a fetcher for the web server, whose address counts as public."""
    return UrlFetcher(
        settings(),
        resolve=Names(["127.0.0.1"]),
        is_public=lambda address: address == "127.0.0.1" or is_public_address(address),
        ssl_context=ssl.create_default_context(cafile=str(authority.root)),
        port=port,
    )


def test_image_is_fetched_without_caller_data(local: UrlFetcher) -> None:
    Host.seen.clear()
    body = fetched("https://LOCALHOST/films/chest%20film.png?size=2#top", source=local)
    assert body == RequestBody(
        b"an image at /films/chest%20film.png?size=2", "application/octet-stream", names=("chest film.png",)
    )
    (seen,) = Host.seen
    assert seen["host"] == "localhost"
    assert set(seen) == {"host", "user-agent", "accept", "accept-encoding", "connection", "path"}


def test_fetched_image_is_predicted_over_api(local: UrlFetcher) -> None:
    backend = FakeBackend()

    async def ask() -> None:
        async with client(gateway(backend=backend, url_fetcher=local)) as http_client:
            response = await http_client.post("/api/predictions/some", json={"url": "https://localhost/a.png"})
            assert (response.status_code, response.json()["filename"]) == (200, "a.png")
            refused = await http_client.post("/api/predictions/some", json={"url": "https://10.0.0.1/a.png"})
            assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")

    asyncio.run(ask())
    assert [question.body for question in backend.requests] == [b"an image at /a.png"]


def test_redirects_are_limited_and_send_no_cookies(local: UrlFetcher) -> None:
    Host.seen.clear()
    assert fetched("https://localhost/turn/2", source=local).content == b"an image at /image.png"
    assert fetched("https://localhost/to/localhost/b.png", source=local).content == b"an image at /b.png"
    assert not any("cookie" in seen for seen in Host.seen)
    with pytest.raises(BadGatewayError, match="more than 3 times"):
        fetched("https://localhost/turn/3", source=local)


@pytest.mark.parametrize(
    "location",
    [
        METADATA + "/latest/meta-data/",
        "[fd00:ec2::254]/latest/",
        "metadata.google.internal/",
        "2852039166/",
        "elsewhere.example/",
        "localhost:22/",
        "user@localhost/",
    ],
)
def test_redirect_to_other_host_is_rejected_before_request(location: str, local: UrlFetcher) -> None:
    Host.seen.clear()
    with pytest.raises(NotAllowedError):
        fetched(f"https://localhost/to/{location}", source=local)
    assert len(Host.seen) == 1


def test_redirect_to_rebound_name_is_rejected(port: int, authority: Authority) -> None:
    names = Names(["127.0.0.1"], [METADATA])
    context = ssl.create_default_context(cafile=str(authority.root))
    source = UrlFetcher(
        settings(), resolve=names, is_public=lambda address: address != METADATA, ssl_context=context, port=port
    )
    Host.seen.clear()
    with pytest.raises(NotAllowedError, match="private address"):
        fetched("https://localhost/turn/1", source=source)
    assert (len(names.lookups), len(Host.seen)) == (2, 1)


def test_checked_address_is_the_one_connected(port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver, which returns another address now, is not used after the check."""

    names = Names(["127.0.0.1"], [METADATA])
    context = ssl.create_default_context(cafile=str(authority.root))
    source = UrlFetcher(settings(), resolve=names, is_public=lambda _: True, ssl_context=context, port=port)

    async def ask() -> RequestBody:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def watched(host: Any, *arguments: Any, **named: Any) -> Any:
            assert host == "127.0.0.1"  # an address resolves to itself
            return await resolve(host, *arguments, **named)

        monkeypatch.setattr(loop, "getaddrinfo", watched)
        return await source.fetch("https://localhost/a")

    assert asyncio.run(ask()).content == b"an image at /a"
    assert names.lookups == ["localhost"]


def test_certificate_must_match_host_name(local: UrlFetcher, port: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    for host, trusted in (("images.example.org", context), ("localhost", None)):
        source = UrlFetcher(
            settings(), resolve=Names(["127.0.0.1"]), is_public=lambda _: True, ssl_context=trusted, port=port
        )
        with pytest.raises(BadGatewayError, match="certificate"):
            fetched(f"https://{host}/a", source=source)


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("missing", BadGatewayError, "status 404"),
        ("empty", BadGatewayError, "empty response"),
        ("packed", BadGatewayError, "compressed"),
        ("large", ContentTooLargeError, "100000 bytes"),
        ("endless", ContentTooLargeError, "100000 bytes"),
        ("slow", GatewayTimeoutError, "within 0.5 s"),
        ("to", BadGatewayError, "without a target"),
    ],
)
def test_host_failures_are_distinguished_without_repeating_content(
    path: str, kind: type[ProblemError], message: str, port: int, authority: Authority
) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    chosen = settings(timeout=0.5) if path == "slow" else settings()
    source = UrlFetcher(chosen, resolve=Names(["127.0.0.1"]), is_public=lambda _: True, ssl_context=context, port=port)
    with pytest.raises(kind, match=message) as caught:
        fetched(f"https://localhost/{path}", source=source)
    assert SECRET not in str(caught.value)


def test_next_address_is_tried_after_connection_failure(port: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    command: dict[str, Any] = {"is_public": lambda _: True, "ssl_context": context, "port": port}
    result = fetched("https://localhost/a", Names(["127.0.0.9", "127.0.0.1"]), **command)
    assert result.content == b"an image at /a"
    with pytest.raises(BadGatewayError):
        fetched("https://localhost/a", Names(["127.0.0.9"]), **command)


def test_environment_proxies_are_ignored(local: UrlFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched("https://localhost/a", source=local).content == b"an image at /a"
