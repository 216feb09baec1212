"""Tests of radserve.proxy.nginx_log."""

import asyncio
import logging
import os

import pytest

from radserve.proxy import nginx_log


def relay(text: str, caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Relay a log, and return level and message of each record."""
    read, write = os.pipe()
    os.write(write, text.encode())
    os.close(write)
    with caplog.at_level(logging.INFO):
        asyncio.run(nginx_log.relay(read))
    return [(record.levelname, record.message) for record in caplog.records]


def test_the_request_line_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    line = (
        "2026/01/02 03:04:05 [error] 7#7: *1 upstream timed out, client: 203.0.113.9, server: _, "
        'request: "POST /predictions/x?patient=Jane HTTP/1.1", upstream: "http://127.0.0.1/x?patient=Jane"\n'
    )
    assert relay(line, caplog) == [("ERROR", "upstream timed out, client: 203.0.113.9, server: _")]


def test_levels_are_mapped_and_unknown_lines_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    lines = "2026/01/02 03:04:05 [warn] 7#7: low\n2026/01/02 03:04:05 [emerg] 7#7: high\nodd\n"
    assert relay(lines, caplog) == [("WARNING", "low"), ("CRITICAL", "high"), ("WARNING", "odd")]


def test_an_unavailable_syslog_socket_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    line = "2026/01/02 03:04:05 [alert] 7#7: *1 send() failed (111: Connection refused) while logging to syslog\n"
    records = relay(line * 3, caplog)
    message = "send() failed (111: Connection refused) while logging to syslog"
    assert records == [("WARNING", f"access-event socket unavailable: {message}")]
