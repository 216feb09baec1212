"""Tests of radserve.host.listening_socket."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from radserve.host.listening_socket import stop_listening

ECHO = """
import socket, threading
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(listener.getsockname()[1] for listener in listeners), flush=True)
connection, _ = listeners[0].accept()
while data := connection.recv(100):
    connection.sendall(data)
threading.Event().wait()
"""


@contextmanager
def echo() -> Iterator[tuple[int, list[int]]]:
    """Run an echo server with two ports."""
    command = [sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            yield child.pid, [int(port) for port in child.stdout.readline().split()]
        finally:
            child.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_new_connections_are_refused_on_all_ports_and_open_ones_continue() -> None:
    with echo() as (pid, ports), connect(ports[0]) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        stop_listening(pid)
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                connect(port)
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"


def test_a_process_that_does_not_exist_is_an_error() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    with pytest.raises(OSError, match=str(child.pid)):
        stop_listening(child.pid)
