"""Tests of radserve.host.listening_socket."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from radserve.host.listening_socket import stop_listening, stop_listening_except

ECHO = """
import socket, sys, threading, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(connection):
    while data := connection.recv(100):
        connection.sendall(data)
try:
    while True:
        time.sleep(float(sys.argv[1]))
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()
except OSError:
    threading.Event().wait()
"""


@contextmanager
def echo(pause: float = 0) -> Iterator[tuple[int, int]]:
    """Run an echo server that waits `pause` seconds before it accepts each connection."""
    command = [sys.executable, "-c", ECHO, str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            child.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_new_connections_are_refused_and_open_ones_continue() -> None:
    with echo() as (pid, port), connect(port) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        stop_listening(pid, port)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"


def test_waiting_connections_are_accepted() -> None:
    with echo(pause=0.2) as (pid, port):
        connections = [connect(port) for _ in range(5)]
        for connection in connections:
            connection.sendall(b"before")
        stop_listening(pid, port)
        assert [connection.recv(100) for connection in connections] == [b"before"] * 5
        for connection in connections:
            connection.close()


def test_a_connection_attempt_while_others_wait_is_refused() -> None:
    with echo(pause=0.4) as (pid, port), connect(port), connect(port):
        closing = threading.Thread(target=stop_listening, args=(pid, port))
        closing.start()
        time.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        closing.join()


def test_a_hanging_process_is_not_waited_for_indefinitely() -> None:
    with echo(pause=60) as (pid, port), connect(port) as connection:
        begin = time.monotonic()
        stop_listening(pid, port)
        assert 1.5 < time.monotonic() - begin < 10
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_a_port_of_another_process_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with subprocess.Popen(["sleep", "10"]) as child:
            with pytest.raises(OSError, match="does not listen on port"):
                stop_listening(child.pid, port)
            child.kill()


def test_all_other_ports_are_closed() -> None:
    with echo() as (pid, port), connect(port) as connection:
        stop_listening_except(pid, {port})
        connect(port).close()
        stop_listening_except(pid, set())
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"
