"""Start of uvicorn by the command."""

import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from gateway import cli
from gateway.errors import SettingsError
from radserve import logging
from radserve.auth import key_file
from radserve.auth.api_keys import Role


def keys(folder: Path) -> str:
    """Create a file with a key."""
    file = folder / "keys.json"
    key_file.create(file, "ward-7", [Role.PREDICT])
    return str(file)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the options of uvicorn, which is not started."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda _, **options: calls.append(options))
    monkeypatch.setattr(logging, "configure", lambda: None)
    monkeypatch.setenv("RADSERVE_GATEWAY_HISTORY", "none")
    return calls


def test_only_configured_proxies_are_trusted(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    cli.serve("127.0.0.1", 8000)
    monkeypatch.setenv("RADSERVE_GATEWAY_PROXIES", "10.0.0.0/8, 192.168.1.5")
    cli.serve("127.0.0.1", 8000)
    assert [command["proxy_headers"] for command in started] == [False, True]
    assert started[1]["forwarded_allow_ips"] == ["10.0.0.0/8", "192.168.1.5"]


def test_uvicorn_sends_no_server_header_and_no_access_log(started: list[dict[str, Any]]) -> None:
    cli.serve("::1", 8000)
    assert (started[0]["server_header"], started[0]["access_log"]) == (False, False)


def test_socket_belongs_to_user_and_group(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, modes = tmp_path / "gateway.sock", []

    def run(_: object, *, fd: int, **options: Any) -> None:
        modes.append(stat.S_IMODE(path.stat().st_mode))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
        assert os.fstat(fd).st_mode & stat.S_IFSOCK

    monkeypatch.setattr(uvicorn, "run", run)
    monkeypatch.setenv("RADSERVE_GATEWAY_KEYS", keys(tmp_path))
    for group in (None, str(os.getgid())):
        cli.serve("127.0.0.1", 8000, path, group)
    assert modes == [0o660, 0o660]


@pytest.mark.parametrize(
    ("path", "group", "message"),
    [
        ("gateway.sock", "no-such-group", "unknown group 'no-such-group'"),
        ("missing/gateway.sock", None, "cannot listen on"),
        ("keys.json", None, "not a socket"),
    ],
)
def test_unusable_socket_is_a_settings_error(
    path: str,
    group: str | None,
    message: str,
    started: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RADSERVE_GATEWAY_KEYS", keys(tmp_path))
    with pytest.raises(SettingsError, match=message):
        cli.serve("127.0.0.1", 8000, tmp_path / path, group)
    assert started == []


def test_public_gateway_without_keys_does_not_start(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["radserve-gateway", "--host", "0.0.0.0"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert (caught.value.code, started) == (1, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert "'radserve keys create NAME --role predict --keys FILE'" in line
    assert "RADSERVE_GATEWAY_KEYS" in line
