"""Tests of radserve.proxy.configuration.

tests/e2e/test_proxy*.py send requests to an nginx with this configuration.
"""

import os
import re
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from radserve.errors import ArchiveError, ServeError
from radserve.host.run_directory import RunDirectory
from radserve.proxy import configuration, nginx
from radserve.proxy.configuration import Upstreams
from radserve.proxy.options import ProxyOptions
from radserve.torchserve.capacity import Capacity
from tests.authority import Authority

OPTIONS = ProxyOptions("127.0.0.1", 18443, "127.0.0.1", 18444, 19180)
CAPACITY = Capacity(heap=1 << 30, requests=20, large=4)
PUBLIC = replace(OPTIONS, host="0.0.0.0")


def upstreams(folder: Path) -> Upstreams:
    return Upstreams(8090, RunDirectory(folder), 1000, 60, CAPACITY, 45.4)


def rendered(options: ProxyOptions, folder: Path, cache: Path | None = None) -> str:
    options = replace(options, access_log=folder / "access.log")
    return configuration.render(options, upstreams(folder), folder, cache)


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
        replace(OPTIONS, keyless=True, scrape_port=18082),
        replace(OPTIONS, host="::1", keyless=True),
        replace(OPTIONS, gateway="unix:/run/gateway/gateway.sock"),
    ],
)
def test_nginx_accepts_the_configuration(options: ProxyOptions, tmp_path: Path) -> None:
    assert accepted(rendered(options, tmp_path), tmp_path)
    assert accepted(rendered(options, tmp_path, tmp_path / "cache"), tmp_path)


def test_nginx_accepts_the_configuration_with_tls(tmp_path: Path, authority: Authority) -> None:
    pair = authority.issue("rendered")
    text = rendered(replace(PUBLIC, certificate=pair.certificate, certificate_key=pair.key), tmp_path)
    assert accepted(text, tmp_path)
    assert re.search(r"^ *ssl_protocols TLSv1\.2 TLSv1\.3;$", text, re.MULTILINE)
    assert len(re.findall(r"listen \S+ ssl http2;", text)) == 3


def test_limits_and_timeouts_match_the_upstreams(tmp_path: Path) -> None:
    text = rendered(OPTIONS, tmp_path)
    assert "client_max_body_size 1000;" in text
    assert "limit_conn open 10;" in text  # half of the queue
    assert "limit_conn addresses 15;" in text
    assert "limit_conn requests 20;" in text
    assert "limit_conn large 4;" in text
    assert "proxy_read_timeout 75s;" in text  # 60 s for the slowest model, and a margin
    assert "worker_shutdown_timeout 45s;" in text
    assert "${" not in text


@pytest.mark.parametrize("keyless", [True, False])
def test_rejections_name_the_limits_that_apply(tmp_path: Path, keyless: bool) -> None:
    text = rendered(replace(OPTIONS, keyless=keyless), tmp_path)
    (detail,) = re.findall(r"^ +429 +\"(Too many requests: .*)\";$", text, re.MULTILINE)
    assert ("a key may send" in detail) is not keyless
    assert "20 open, 4 of them with a body above 1 MB" in detail


def test_keys_are_not_cached_without_a_folder_in_memory(tmp_path: Path) -> None:
    assert "proxy_cache off;" in rendered(OPTIONS, tmp_path)
    assert "proxy_cache keys;" in rendered(OPTIONS, tmp_path, tmp_path / "cache")


def test_only_root_names_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    assert re.search(r"^# user ", rendered(OPTIONS, tmp_path), re.MULTILINE)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert re.search(r"^user root;", rendered(OPTIONS, tmp_path), re.MULTILINE)


def test_a_missing_template_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=r"nowhere\.template: No such file"):
        rendered(replace(OPTIONS, template=tmp_path / "nowhere.template"), tmp_path)


def test_the_response_timeout_is_that_of_the_slowest_archive(tmp_path: Path) -> None:
    for seconds in (20, 90):
        with zipfile.ZipFile(tmp_path / f"{seconds}.mar", "w") as archive:
            archive.writestr("model-config.yaml", f"responseTimeout: {seconds}\n")
    assert configuration.response_timeout(tmp_path.glob("*.mar")) == 90
    with pytest.raises(ServeError, match="--response-timeout"):
        configuration.response_timeout([])


def test_an_archive_that_inflates_is_not_read(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.mar"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model-config.yaml", "responseTimeout: 20\n" + "#" * 10_000_000)
    with pytest.raises(ArchiveError, match="its files are compressed"):
        configuration.response_timeout([bomb])
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("model-config.yaml", "responseTimeout: 20\n" + "#" * 2_000_000)
    with pytest.raises(ArchiveError, match="more than 1048576"):
        configuration.response_timeout([bomb])


def test_every_error_status_has_a_title_and_a_detail(tmp_path: Path) -> None:
    text = rendered(OPTIONS, tmp_path)
    pages = max(re.findall(r"error_page ([\d ]+) /problem;", text), key=len)
    for status in [*pages.split(), "431"]:
        assert len(re.findall(rf'^ +{status} +"[^"]+";$', text, re.MULTILINE)) == 2, status


def test_only_upper_case_placeholders_are_replaced() -> None:
    text = 'listen ${PORT}; set $args ""; map $a ${b} $C; ${A_1}'
    assert configuration.fill(text, {"PORT": 80, "A_1": "x"}, "here") == 'listen 80; set $args ""; map $a ${b} $C; x'


def test_an_unknown_placeholder_is_an_error() -> None:
    with pytest.raises(ServeError, match=r"^here: unknown placeholder \$\{PROT\}\. Available: PORT"):
        configuration.fill("listen ${PROT};", {"PORT": 80}, "here")


@pytest.mark.parametrize("value", ['a";', "a\\b", "$uri", "a\nb", "it's", "a\x00"])
def test_a_value_with_unsafe_characters_is_an_error(value: str) -> None:
    with pytest.raises(ServeError, match="PATH"):
        configuration.fill('open "${PATH}";', {"PATH": value}, "here")


def test_when_comments_a_line_out() -> None:
    assert configuration.when(True) + "ssl on;" == "ssl on;"
    assert (configuration.when(False) + "ssl on;").startswith("#")
