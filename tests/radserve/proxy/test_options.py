"""nginx's configuration as it is rendered; tests/e2e/test_front*.py ask the nginx that reads it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ServeError
from radserve.host.run_directory import RunDirectory
from radserve.proxy import nginx
from radserve.proxy import options as front
from radserve.proxy.options import Options, Upstreams
from tests.authority import Authority
from tests.conftest import ROOT

OPTIONS = Options("127.0.0.1", 18443, "127.0.0.1", 18444, 19180)
PUBLIC = replace(OPTIONS, host="0.0.0.0")


def behind(folder: Path) -> Upstreams:
    return Upstreams("127.0.0.1:8080", "127.0.0.1:8082", "127.0.0.1:8090", RunDirectory(folder), 1000, 60, 45.4)


def rendered(options: Options, folder: Path, cache: Path | None = None) -> str:
    options = replace(options, access_log=folder / "access.log")
    return front.configuration(options, behind(folder), folder, cache)


def accepted(text: str, folder: Path) -> bool:
    (folder / "nginx.conf").write_text(text)
    line = [nginx.binary(), "-t", "-q", "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        PUBLIC,
        replace(OPTIONS, host="::", management_host="::1"),
        replace(OPTIONS, trusted=("10.0.0.0/8", "fd00::/8"), rate=1, concurrent=1),
        replace(OPTIONS, gateway="127.0.0.1:8000"),
        replace(OPTIONS, gateway="unix:/run/gateway/gateway.sock"),
    ],
)
def test_nginx_takes_every_form_of_it(options: Options, tmp_path: Path) -> None:
    assert accepted(rendered(options, tmp_path), tmp_path)
    assert accepted(rendered(options, tmp_path, tmp_path / "cache"), tmp_path)


def test_nginx_takes_it_with_tls_too(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("rendered")
    text = rendered(replace(PUBLIC, certificate=pair.certificate, certificate_key=pair.key), tmp_path)
    assert accepted(text, tmp_path)
    assert re.search(r"^ *ssl_protocols TLSv1\.2 TLSv1\.3;$", text, re.MULTILINE)
    assert len(re.findall(r"listen \S+ ssl http2;", text)) == 3


def test_limits_and_times_are_those_of_what_is_behind(tmp_path: Path) -> None:
    text = rendered(OPTIONS, tmp_path)
    assert "client_max_body_size 1000;" in text
    assert "proxy_read_timeout 75s;" in text  # 60 s of the slowest model and a margin
    assert "worker_shutdown_timeout 45s;" in text
    assert "${" not in text.replace("# ${...}", "").replace("${...} stands", "").replace("# Where ${", "")


def test_without_memory_nothing_of_a_key_is_written(tmp_path: Path) -> None:
    assert "proxy_cache off;" in rendered(OPTIONS, tmp_path)
    assert "proxy_cache keys;" in rendered(OPTIONS, tmp_path, tmp_path / "cache")


def test_root_alone_names_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    assert re.search(r"^# user ", rendered(OPTIONS, tmp_path), re.MULTILINE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert re.search(r"^user root;", rendered(OPTIONS, tmp_path), re.MULTILINE)


def test_a_template_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=r"nowhere\.template: No such file"):
        rendered(replace(OPTIONS, template=tmp_path / "nowhere.template"), tmp_path)


def test_what_can_be_reached_from_outside_needs_tls_or_a_word_against_it() -> None:
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
def test_a_gateway_is_named_by_host_and_port_or_by_its_socket(gateway: str) -> None:
    with pytest.raises(ServeError, match=r"--gateway has value .*HOST:PORT"):
        replace(OPTIONS, gateway=gateway).require_safe()


def test_clients_are_told_a_url_that_they_can_ask() -> None:
    assert OPTIONS.url == "http://127.0.0.1:18443"
    assert replace(OPTIONS, host="::1").url == "http://[::1]:18443"
    assert re.fullmatch(r"https://[^:]+:18443", replace(PUBLIC, certificate=Path("x.pem")).url)
    assert "0.0.0.0" not in PUBLIC.url


def test_networks_are_read_and_nothing_else() -> None:
    assert front.networks("") == ()
    assert front.networks("10.0.0.0/8, fd00::/8,192.0.2.7") == ("10.0.0.0/8", "fd00::/8", "192.0.2.7/32")
    for wrong in ("10.0.0.1/8", "lb", "0.0.0.0/0; }"):
        with pytest.raises(ServeError, match="--trusted-proxy"):
            front.networks(wrong)


def test_the_slowest_archive_says_how_long_an_answer_may_take(tmp_path: Path) -> None:
    for seconds in (20, 90):
        with zipfile.ZipFile(tmp_path / f"{seconds}.mar", "w") as archive:
            archive.writestr("model-config.yaml", f"responseTimeout: {seconds}\n")
    assert front.response_timeout(tmp_path.glob("*.mar")) == 90
    with pytest.raises(ServeError, match="--response-timeout"):
        front.response_timeout([])


def test_where_nginx_is_not_installed_it_is_said_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ServeError, match="apt install nginx-light"):
        nginx.binary()


def test_what_nginx_says_of_a_request_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    line = (
        "2026/01/02 03:04:05 [error] 7#7: *1 upstream timed out, client: 203.0.113.9, server: _, "
        'request: "POST /predictions/x?patient=Jane HTTP/1.1", upstream: "http://127.0.0.1/x?patient=Jane"\n'
    )
    read, write = os.pipe()
    os.write(write, line.encode() + b"odd\n")
    os.close(write)
    asyncio.run(nginx._relay(read))
    first, second = caplog.records
    assert (first.levelname, first.message) == ("ERROR", "upstream timed out, client: 203.0.113.9, server: _")
    assert (second.levelname, second.message) == ("WARNING", "odd")


def test_every_status_that_nginx_may_answer_has_its_words() -> None:
    text = (ROOT / "radserve" / "proxy" / "nginx.conf.template").read_text()
    pages = max(re.findall(r"error_page ([\d ]+) /problem;", text), key=len)
    for status in [*pages.split(), "431"]:
        assert len(re.findall(rf'^ +{status} +"[^"]+";$', text, re.MULTILINE)) == 2, status
