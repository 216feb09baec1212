"""Clients that hold connections to an HTTP server without completing a request."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import httpx

HALF_OPEN: Final = 1200
DESCRIPTORS: Final = 1024
"""Usual limit of open files of a process, fewer than the connections."""
REQUEST: Final = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def limit_descriptors(pid: int) -> None:
    """Limit the open files of a process."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@contextmanager
def half_open(port: int, count: int = HALF_OPEN) -> Iterator[list[socket.socket]]:
    """Open connections and send an unfinished header over each."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            connection.send(REQUEST)
            connections.append(connection)
        yield connections


def slowest(url: str, count: int = 20) -> float:
    """Return the seconds of the slowest of several requests, each over a new connection; all must succeed."""
    worst = 0.0
    for _ in range(count):
        start = time.monotonic()
        assert httpx.get(url, timeout=10).status_code == 200
        worst = max(worst, time.monotonic() - start)
    return worst
