"""Tests of gateway.uploads.url_fetcher: which hosts and addresses it connects to."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from gateway.errors import (
    BadGatewayError,
    BadRequestError,
    NotAllowedError,
    SettingsError,
)
from gateway.uploads.url_fetcher import UrlFetcher, is_public_address
from tests.gateway.application import client, gateway
from tests.gateway.uploads.fetching import METADATA, PUBLIC, TRUST_NONE, Names, fetched, settings


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
    assert names.lookups == []
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
    assert names.lookups == [host]


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


def test_disabled_urls_name_the_setting() -> None:
    async def ask() -> None:
        async with client(gateway()) as http_client:
            response = await http_client.post("/api/predictions/some", json={"url": "https://images.example.org/a"})
            assert "RADSERVE_GATEWAY_URL_HOSTS" in json.loads(response.content)["detail"]
            assert response.status_code == 400

    asyncio.run(ask())
