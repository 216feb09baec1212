"""Tests of radserve.proxy.options."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ServeError
from radserve.proxy import options as proxy_options
from radserve.proxy.options import ProxyOptions

OPTIONS = ProxyOptions("127.0.0.1", 18443, "127.0.0.1", 18444, 19180)
PUBLIC = replace(OPTIONS, host="0.0.0.0")


def test_a_public_address_needs_tls_or_plain_http() -> None:
    OPTIONS.require_safe()
    with pytest.raises(ServeError, match="--certificate FILE --certificate-key FILE, or --plain-http"):
        PUBLIC.require_safe()
    with pytest.raises(ServeError, match="from outside"):
        replace(OPTIONS, management_host="0.0.0.0").require_safe()
    replace(PUBLIC, plain_http=True).require_safe()
    pem = Path("x.pem")
    replace(PUBLIC, certificate=pem, certificate_key=pem).require_safe()
    with pytest.raises(ServeError, match="belong together"):
        replace(PUBLIC, certificate=pem).require_safe()
    with pytest.raises(ServeError, match="exclude each other"):
        replace(PUBLIC, certificate=pem, certificate_key=pem, plain_http=True).require_safe()


@pytest.mark.parametrize(
    "gateway", ["", "8000", "http://127.0.0.1:8000", "127.0.0.1", "unix:relative", "x:1; }", "a\n:1"]
)
def test_an_invalid_gateway_address_is_rejected(gateway: str) -> None:
    with pytest.raises(ServeError, match=r"--gateway has value .*HOST:PORT"):
        replace(OPTIONS, gateway=gateway).require_safe()


def test_the_url_is_reachable_for_clients() -> None:
    assert OPTIONS.url == "http://127.0.0.1:18443"
    assert replace(OPTIONS, host="::1").url == "http://[::1]:18443"
    assert re.fullmatch(r"https://[^:]+:18443", replace(PUBLIC, certificate=Path("x.pem")).url)
    assert "0.0.0.0" not in PUBLIC.url


def test_networks_are_parsed_and_anything_else_is_rejected() -> None:
    assert proxy_options.networks("") == ()
    assert proxy_options.networks("10.0.0.0/8, fd00::/8,192.0.2.7") == ("10.0.0.0/8", "fd00::/8", "192.0.2.7/32")
    for invalid in ("10.0.0.1/8", "lb", "0.0.0.0/0; }"):
        with pytest.raises(ServeError, match="--trusted-proxy"):
            proxy_options.networks(invalid)
