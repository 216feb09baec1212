"""How the command starts uvicorn."""

from __future__ import annotations

from typing import Any

import pytest
import uvicorn

from gateway import cli
from gateway.errors import SettingsError
from radserve import log


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Hold what uvicorn was started with, instead of starting it."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda _, **words: calls.append(words))
    monkeypatch.setattr(log, "configure", lambda: None)
    monkeypatch.setenv("RADSERVE_GATEWAY_HISTORY", "none")
    return calls


def test_no_proxy_is_believed_unless_it_is_named(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.serve("127.0.0.1", 8000)
    monkeypatch.setenv("RADSERVE_GATEWAY_PROXIES", "10.0.0.0/8, 192.168.1.5")
    cli.serve("127.0.0.1", 8000)
    assert [words["proxy_headers"] for words in started] == [False, True]
    assert started[1]["forwarded_allow_ips"] == ["10.0.0.0/8", "192.168.1.5"]


def test_it_neither_names_its_server_nor_logs_queries(started: list[dict[str, Any]]) -> None:
    cli.serve("::1", 8000)
    assert (started[0]["server_header"], started[0]["access_log"]) == (False, False)


def test_without_keys_it_does_not_even_start_for_others(started: list[dict[str, Any]]) -> None:
    with pytest.raises(SettingsError, match="radserve keys create"):
        cli.serve("192.168.1.5", 8000)
    assert started == []
