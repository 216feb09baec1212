"""The door of a child process is closed from outside; who is inside stays."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from radserve.listener import stop_listening

ECHO = """
import socket, threading
door = socket.create_server(("127.0.0.1", 0))
print(door.getsockname()[1], flush=True)
def serve(guest):
    while data := guest.recv(100):
        guest.sendall(data)
try:
    while True:
        guest, _ = door.accept()
        threading.Thread(target=serve, args=(guest,), daemon=True).start()
except OSError:
    threading.Event().wait()
"""


def test_new_connections_are_refused_and_open_ones_go_on() -> None:
    child = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=5) as guest:
            guest.sendall(b"before")
            assert guest.recv(100) == b"before"
            stop_listening(child.pid, port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5)
            guest.sendall(b"after")
            assert guest.recv(100) == b"after"
        child.kill()


def test_a_port_on_which_the_process_does_not_listen_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with subprocess.Popen(["sleep", "10"]) as child:
            with pytest.raises(OSError, match="listens on none"):
                stop_listening(child.pid, port)
            child.kill()
