"""TLS of the proxy."""

import re
import signal
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.authority import Authority
from tests.fake_supervisor import await_true
from tests.proxy import Keys, Proxy, await_text, problem, running_proxy
from tests.repack import FILM, NAME
from tests.server import Server

pytestmark = pytest.mark.e2e

PATH = f"/predictions/{NAME}"


def test_http_on_a_tls_port_is_400(proxy: Proxy) -> None:
    response = httpx.get(proxy.url.replace("https", "http") + "/ready")
    assert "https" in problem(response, 400)


def test_only_modern_tls_is_accepted(proxy: Proxy) -> None:
    where = urlsplit(proxy.url)

    def shake(version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=str(proxy.ca))
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with (
            socket.create_connection((where.hostname, where.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=where.hostname) as connection,
        ):
            return connection.version()

    assert shake(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert shake(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        shake(ssl.TLSVersion.TLSv1_1)


def test_every_response_has_the_security_headers(proxy: Proxy, client: httpx.Client) -> None:
    for response in (client.post(PATH, content=FILM), client.get("/nothing")):
        assert response.headers["strict-transport-security"].startswith("max-age=")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["server"] == "nginx"
    where = urlsplit(proxy.url)
    context = ssl.create_default_context(cafile=str(proxy.ca))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((where.hostname, where.port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=where.hostname) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


def test_sighup_reloads_a_valid_certificate_only(
    server: Server, keys: Keys, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "runtime"
    pair = authority.issue("renewed")
    with running_proxy(server, folder, keys, tmp_path, (authority, pair)) as proxy:
        before = served_by(proxy)
        broken = authority.issue("other").key.read_bytes()
        good, pair_key = pair.certificate.read_bytes(), pair.key.read_bytes()
        pair.key.write_bytes(broken)
        proxy.process.send_signal(signal.SIGHUP)
        await_text(proxy.log, "certificate not reloaded")
        assert served_by(proxy) == before
        pair.key.write_bytes(pair_key)
        assert pair.certificate.read_bytes() == good
        authority.issue("renewed")
        proxy.process.send_signal(signal.SIGHUP)
        await_true(lambda: served_by(proxy) != before)
        proxy.process.terminate()
        assert proxy.process.wait(timeout=30) == 0
    assert not (folder / "front").exists()


def served_by(proxy: Proxy) -> bytes | None:
    with proxy.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return connection.getpeercert(binary_form=True)


def test_the_supervisor_exposes_the_expiry_of_a_separate_proxys_certificate(server: Server, proxy: Proxy) -> None:
    response = re.search(
        r"^radserve_certificate_not_after_seconds (\S+)$", httpx.get(f"{server.health_url}/metrics").text, re.MULTILINE
    )
    assert response is not None
    expires = ssl.cert_time_to_seconds(str(peer(proxy)["notAfter"]))
    assert float(response[1]) == expires


def peer(proxy: Proxy) -> dict[str, object]:
    with proxy.connect() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        return dict(connection.getpeercert() or {})
