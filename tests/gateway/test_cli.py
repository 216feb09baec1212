"""Start of uvicorn by the command."""

import sys
from typing import Any

import pytest
import uvicorn

from gateway import cli
from radserve import logging


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the options of uvicorn, which is not started."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda _, **words: calls.append(words))
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
