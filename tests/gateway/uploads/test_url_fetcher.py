"""Fetching of URLs, with a TLS web server on the loopback interface."""

import asyncio
import gzip
import http.server
import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from gateway.errors import (
    BadGatewayError,
    BadRequestError,
    ContentTooLargeError,
    GatewayTimeoutError,
    NotAllowedError,
    ProblemError,
    SettingsError,
)
from gateway.settings import Settings
from gateway.uploads.request_body import RequestBody
from gateway.uploads.url_fetcher import UrlFetcher, is_public_address
from tests.authority import Authority
from tests.gateway.application import client, gateway
from tests.gateway.fake_backend import FakeBackend

TRUST_NONE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
PUBLIC = "93.184.216.34"
METADATA = "169.254.169.254"
SECRET = "what a private host says"


class Host(http.server.BaseHTTPRequestHandler):
    """Web server that responds by path and records request headers."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[dict[str, str]]] = []
    release: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        Host.seen.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
        name, _, rest = self.path.strip("/").partition("/")
        if name == "to":
            self._send(302, b"", {"Location": f"https://{rest}" if rest else "", "Set-Cookie": "a=b"})
        elif name == "turn":
            self._send(302, b"", {"Location": f"/turn/{int(rest) - 1}" if int(rest) else "/image.png"})
        elif name == "slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x")
            self.wfile.flush()
            Host.release.wait(5)
        elif name == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.close_connection = True
        else:
            self._send(*self._answer(name))

    def _answer(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        fixed: dict[str, tuple[int, bytes, dict[str, str]]] = {
            "packed": (200, gzip.compress(b"x" * 10_000), {"Content-Encoding": "gzip"}),
            "large": (200, b"", {"Content-Length": "999999999"}),
            "missing": (404, SECRET.encode(), {}),
            "empty": (200, b"", {}),
        }
        return fixed.get(name, (200, b"an image at " + self.path.encode(), {}))

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    """Run the web server with a certificate for localhost."""
    pair = authority.issue("images")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Ignore disconnected clients."""

    server = Quiet(("127.0.0.1", 0), Host)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    Host.release.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Names:
    """Resolves names to scripted addresses, in order."""

    def __init__(self, *responses: Sequence[str]) -> None:
        self.responses = list(responses)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]


def fetched(value: str, names: Names | None = None, *, source: UrlFetcher | None = None, **words: Any) -> RequestBody:
    """Fetch a URL; `words` replace parts of the fetcher."""
    chosen: dict[str, Any] = {"resolve": names or Names([PUBLIC]), "ssl_context": TRUST_NONE}
    result = source or UrlFetcher(settings(), **chosen | words)
    return asyncio.run(result.fetch(value))


def settings(**changed: Any) -> Settings:
    hosts = ("images.example.org", "bücher.example", "localhost")
    return Settings.read(**{"url_hosts": hosts, "max_bytes": 100_000, "timeout": 2} | changed)


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
        settings(), resolve=names, is_public=lambda found: found != METADATA, ssl_context=context, port=port
    )
    Host.seen.clear()
    with pytest.raises(NotAllowedError, match="private address"):
        fetched("https://localhost/turn/1", source=source)
    assert (len(names.asked), len(Host.seen)) == (2, 1)


def test_checked_address_is_the_one_connected(port: int, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver, which returns another address now, is not used after the check."""

    names = Names(["127.0.0.1"], [METADATA])
    context = ssl.create_default_context(cafile=str(authority.root))
    source = UrlFetcher(settings(), resolve=names, is_public=lambda _: True, ssl_context=context, port=port)

    async def ask() -> RequestBody:
        loop = asyncio.get_running_loop()
        resolve = loop.getaddrinfo

        async def watched(host: Any, *words: Any, **named: Any) -> Any:
            assert host == "127.0.0.1"  # an address resolves to itself
            return await resolve(host, *words, **named)

        monkeypatch.setattr(loop, "getaddrinfo", watched)
        return await source.fetch("https://localhost/a")

    assert asyncio.run(ask()).content == b"an image at /a"
    assert names.asked == ["localhost"]


def test_certificate_must_match_host_name(local: UrlFetcher, port: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    for host, trusted in (("images.example.org", context), ("localhost", None)):
        source = UrlFetcher(
            settings(), resolve=Names(["127.0.0.1"]), is_public=lambda _: True, ssl_context=trusted, port=port
        )
        with pytest.raises(BadGatewayError, match="certificate"):
            fetched(f"https://{host}/a", source=source)


@pytest.mark.parametrize(
    ("path", "kind", "said"),
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
    path: str, kind: type[ProblemError], said: str, port: int, authority: Authority
) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    chosen = settings(timeout=0.5) if path == "slow" else settings()
    source = UrlFetcher(chosen, resolve=Names(["127.0.0.1"]), is_public=lambda _: True, ssl_context=context, port=port)
    with pytest.raises(kind, match=said) as caught:
        fetched(f"https://localhost/{path}", source=source)
    assert SECRET not in str(caught.value)


def test_next_address_is_tried_after_connection_failure(port: int, authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.root))
    command: dict[str, Any] = {"is_public": lambda _: True, "ssl_context": context, "port": port}
    result = fetched("https://localhost/a", Names(["127.0.0.9", "127.0.0.1"]), **command)
    assert result.content == b"an image at /a"
    with pytest.raises(BadGatewayError):
        fetched("https://localhost/a", Names(["127.0.0.9"]), **command)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2852039166/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[fe80::1%25eth0]/",
        "https://[64:ff9b::7f00:1]/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
        "https://127\u30020\u30020\u30021/",
        "https://93.184.216.34/",
        "https://images.example.org.evil.example/",
        "https://evil.example/images.example.org",
        "https://images.example.org@evil.example/",
        "https://evil.example#@images.example.org/",
        "https://evil.example?@images.example.org/",
        "https://evil.example\\@images.example.org/",
        "https://user:word@images.example.org/",
        "https://user@images.example.org/",
        "https://@images.example.org/",
        "https://images.example.org:8443/",
        "https://images.example.org:22/",
        "http://images.example.org/",
        "https:images.example.org/",
        "https:///images.example.org/",
        "//images.example.org/",
        "file:///etc/passwd",
        "gopher://images.example.org/",
        "ftp://images.example.org/",
        "https://images.example.org\r\nHost: evil/",
        "https://images.example.org /",
        "https://images.example.org\u200b/",
        "https://images.example.org%2eevil/",
        "https://images..example.org/",
        "https://sub.images.example.org/",
        "https://example.org/",
        "https://[images.example.org]/",
        "https://images.example.org:443x/",
        "https://images.example.org:99999/",
        "https://",
        "",
        "https://images.example.org/" + "a" * 2048,
    ],
)
def test_disallowed_urls_are_rejected_before_dns(url: str) -> None:
    names = Names([PUBLIC])
    with pytest.raises((NotAllowedError, BadRequestError)) as caught:
        fetched(url, names)
    assert names.asked == []
    assert url == "" or url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://images.example.org:443/a", "images.example.org"),
        ("HTTPS://IMAGES.example.ORG./a", "images.example.org"),
        ("https://bücher.example/a", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/a", "xn--bcher-kva.example"),
    ],
)
def test_allowed_host_matches_all_spellings(url: str, host: str) -> None:
    names = Names([METADATA])
    with pytest.raises(NotAllowedError, match="private address"):
        fetched(url, names)
    assert names.asked == [host]


@pytest.mark.parametrize(
    "addresses", [[METADATA], [PUBLIC, "10.0.0.1"], ["2606:2800:220:1::1", "fd00::1"], ["nonsense"]]
)
def test_host_with_private_address_is_rejected_without_naming_it(addresses: list[str]) -> None:
    with pytest.raises(NotAllowedError, match="private address") as caught:
        fetched("https://images.example.org/a", Names(addresses))
    assert not any(address in str(caught.value) for address in addresses)


def test_host_without_address_returns_502() -> None:
    class Fails(Names):
        async def __call__(self, host: str) -> Sequence[str]:
            raise OSError

    for names in (Names([]), Fails([])):
        with pytest.raises(BadGatewayError, match="no address"):
            fetched("https://images.example.org/a", names)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        (METADATA, False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("2606:2800:220:1::1%eth0", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("2001::1", False),
        ("2002:7f00:1::", False),
        ("2002:5db8:d822::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::5db8:d822", False),
        ("5f00::1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_private_addresses_are_not_public(address: str, public: bool) -> None:
    assert is_public_address(address) is public


@pytest.mark.parametrize(
    "host", ["https://a.example", "a.example/x", "a.example:443", "*.example", "10.0.0.1", "[::1]", "1"]
)
def test_invalid_allowed_host_is_a_settings_error(host: str) -> None:
    with pytest.raises(SettingsError, match="RADSERVE_GATEWAY_URL_HOSTS"):
        UrlFetcher(settings(url_hosts=(host,)), ssl_context=TRUST_NONE)


def test_environment_proxies_are_ignored(local: UrlFetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched("https://localhost/a", source=local).content == b"an image at /a"


def test_disabled_urls_name_the_setting() -> None:
    async def ask() -> None:
        async with client(gateway()) as http_client:
            response = await http_client.post("/api/predictions/some", json={"url": "https://images.example.org/a"})
            assert "RADSERVE_GATEWAY_URL_HOSTS" in json.loads(response.content)["detail"]
            assert response.status_code == 400

    asyncio.run(ask())
