"""The door of a child process is closed from outside; who is inside stays."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from radserve.host.listening_socket import stop_listening

ECHO = """
import socket, sys, threading, time
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)
def serve(guest):
    while data := guest.recv(100):
        guest.sendall(data)
try:
    while True:
        time.sleep(float(sys.argv[1]))
        guest, _ = door.accept()
        threading.Thread(target=serve, args=(guest,), daemon=True).start()
except OSError:
    threading.Event().wait()
"""


@contextmanager
def echo(pause: float = 0) -> Iterator[tuple[int, int]]:
    """Run a process that sends back what it gets; `pause` are seconds before it accepts the next connection."""
    command = [sys.executable, "-c", ECHO, str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            yield child.pid, int(child.stdout.readline())
        finally:
            child.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_new_connections_are_refused_and_open_ones_go_on() -> None:
    with echo() as (pid, port), connect(port) as guest:
        guest.sendall(b"before")
        assert guest.recv(100) == b"before"
        stop_listening(pid, port)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        guest.sendall(b"after")
        assert guest.recv(100) == b"after"


def test_connections_that_wait_to_be_accepted_are_answered() -> None:
    with echo(pause=0.2) as (pid, port):
        guests = [connect(port) for _ in range(5)]
        for guest in guests:
            guest.sendall(b"before")
        stop_listening(pid, port)
        assert [guest.recv(100) for guest in guests] == [b"before"] * 5
        for guest in guests:
            guest.close()


def test_who_comes_while_others_wait_is_refused_and_not_dropped_later() -> None:
    with echo(pause=0.4) as (pid, port), connect(port), connect(port):
        closing = threading.Thread(target=stop_listening, args=(pid, port))
        closing.start()
        time.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            connect(port)
        closing.join()


def test_a_process_that_accepts_nothing_is_not_waited_for_for_ever() -> None:
    with echo(pause=60) as (pid, port), connect(port) as guest:
        begin = time.monotonic()
        stop_listening(pid, port)
        assert 1.5 < time.monotonic() - begin < 10
        with pytest.raises(ConnectionResetError):
            guest.recv(100)


def test_a_port_on_which_the_process_does_not_listen_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with subprocess.Popen(["sleep", "10"]) as child:
            with pytest.raises(OSError, match="listens on none"):
                stop_listening(child.pid, port)
            child.kill()
