"""TorchServe's gRPC ports are unusable for another user of this machine, from the first moment of the start on."""

import contextlib
import multiprocessing
import os
import socket
import ssl
import subprocess
import time
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import psutil
import pytest

from tests.repack import NAME
from tests.server import ROOT, command, free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")]

NOBODY = 65534
HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels",
    ":authority": "localhost",
    "content-type": "application/grpc",
    "te": "trailers",
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


CALL = b"".join(
    (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(4, 0, 0, b""),
        # Literal fields without indexing (RFC 7541, section 6.2.2).
        frame(
            1,
            4,
            1,
            b"".join(b"\0" + bytes((len(k),)) + k.encode() + bytes((len(v),)) + v.encode() for k, v in HEADERS.items()),
        ),
        frame(0, 1, 1, bytes(5)),
    )
)
"""A call of gRPC: ListModels with an empty message."""


def test_another_user_gets_no_response_of_grpc(store: Path, tmp_path: Path) -> None:
    ports = free_ports(3)
    ours, theirs = multiprocessing.Pipe()
    attacker = multiprocessing.get_context("fork").Process(target=attack, args=(theirs,))
    attacker.start()
    theirs.close()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command(store, ports, "--workers", "1", "--models", NAME), stdout=subprocess.DEVNULL, stderr=log, cwd=ROOT
        )
    try:
        deadline = time.monotonic() + 120
        while not ready(f"http://127.0.0.1:{ports[1]}/ready"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            ours.send(grpc_ports(process.pid))
            time.sleep(0.02)
        ours.send(grpc_ports(process.pid))
        ours.send(None)
        results = ours.recv()
    finally:
        process.terminate()
        process.wait(timeout=60)
        attacker.kill()
    assert len({port for port, *_ in results}) == 2, "inference and management"
    assert {(protocol, moment) for _, protocol, moment, _ in results} == {
        (protocol, moment) for protocol in ("TLS", "plain") for moment in ("start", "ready")
    }
    assert {result for *_, result in results} == {"no HTTP/2"}


def ready(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def grpc_ports(supervisor: int) -> set[int]:
    """Return the ports on which Java listens; its other APIs are on unix sockets."""
    java = [child for child in psutil.Process(supervisor).children() if child.name() == "java"]
    return {item.laddr.port for child in java for item in child.net_connections("tcp") if item.status == "LISTEN"}


def attack(pipe: Connection) -> None:
    """As another user, call gRPC on new connections all the time, and on connections of the start once it is ready."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    results: set[tuple[int, str, str, str]] = set()
    held: list[tuple[int, socket.socket]] = []
    while (ports := pipe.recv()) is not None:
        for port in ports:
            results.add((port, "TLS", "start", call_with_tls(connect(port))))
            results.add((port, "plain", "start", call(connect(port))))
            if len(held) < 100:
                held.append((port, connect(port)))
    for index, (port, connection) in enumerate(held):
        protocol, caller = (("TLS", call_with_tls), ("plain", call))[index // 2 % 2]
        results.add((port, protocol, "ready", caller(connection)))
    pipe.send(results)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


@cache
def tls() -> ssl.SSLContext:
    """Return a context that trusts every server; made once, because it takes longer than a call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    return context


def call_with_tls(connection: socket.socket) -> str:
    try:
        return call(tls().wrap_socket(connection))
    except OSError:
        return "no HTTP/2"


def call(connection: socket.socket) -> str:
    """Return what the response to a call begins with."""
    received = b""
    with connection, contextlib.suppress(OSError):
        connection.sendall(CALL)
        while b"grpc-status" not in received and (data := connection.recv(10000)):
            received += data
    return f"response {received!r}" if received else "no HTTP/2"
