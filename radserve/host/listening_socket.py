"""Closing the door of a server that cannot close it itself.

TorchServe has no way to stop accepting while it finishes what it has: SIGTERM drops both. The supervisor is
its parent, so it may take a copy of the listening socket (pidfd_getfd(2), Linux 5.6) and shut that down: new
connections are refused by the kernel from then on, open ones are not touched.

Shutting it resets the connections that the kernel has completed and the process has not accepted yet, and their clients
may have sent a request. So a filter of the socket first passes over all beginnings of connections, until the process
has accepted those that wait. Who begins one meanwhile hears nothing, and begins again after a second: TCP does that by
itself (RFC 6298, section 2.1).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SYS_PIDFD_GETFD: Final = 438
"""The same number on every architecture."""
_LISTEN: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""
_SO_ATTACH_FILTER: Final = 26
_NO_BEGINNING: Final = (
    (0x30, 0, 0, 13),  # load the byte of the flags; a filter of a TCP socket sees segments from their header on
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # take it whole
)
"""A classic BPF program (socket(7)); code, jump if true, jump if false, value."""
_WAITING: Final = 24
"""Offset within TCP_INFO of `tcpi_unacked`: of a socket that listens, the connections that wait to be accepted."""
_PATIENCE: Final = 2.0
"""Seconds for a process to accept them; one that does not by then stands still."""


def stop_listening(pid: int, port: int) -> None:
    """Let the kernel refuse new connections to a port on which a child process listens.

    Those that are there already are the process' to accept, for two seconds at most.

    Raises
    ------
    OSError
        If the kernel does not allow it (a seccomp profile may), or nobody listens there.
    """
    inodes = {inode for inode, where in _listening().items() if where == port}
    with _copy(pid, _descriptor(pid, inodes)) as listener:
        _empty(listener)
        listener.shutdown(socket.SHUT_RDWR)


def stop_listening_but(pid: int, ports: Collection[int]) -> None:
    """Let the kernel refuse new connections to all ports on which a child process listens, but for these.

    Raises
    ------
    OSError
        If the kernel does not allow it.
    """
    inodes = {inode for inode, where in _listening().items() if where not in ports}
    for descriptor in _descriptors(pid, inodes):
        with _copy(pid, descriptor) as listener:
            listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def _copy(pid: int, descriptor: int) -> Iterator[socket.socket]:
    """Hold a socket of a child process."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    finally:
        os.close(pidfd)
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(fileno=copy) as found:
        yield found


def _empty(listener: socket.socket) -> None:
    """Let the process accept what waits, and nothing come after it."""
    program = b"".join(struct.pack("@HBBI", *step) for step in _NO_BEGINNING)
    held = ctypes.create_string_buffer(program, len(program))
    listener.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_NO_BEGINNING), ctypes.addressof(held))
    )
    end = time.monotonic() + _PATIENCE
    while _waiting(listener) and time.monotonic() < end:
        time.sleep(0.005)


def _waiting(listener: socket.socket) -> int:
    (count,) = struct.unpack_from("@I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), _WAITING)
    return int(count)


def _listening() -> dict[str, int]:
    """Return the inodes of the sockets that listen on TCP ports, with these."""
    lines = [line for name in ("tcp", "tcp6") for line in _lines(Path("/proc/net") / name)]
    fields = [line.split() for line in lines]
    return {item[9]: int(item[1].rpartition(":")[2], 16) for item in fields if item[3] == _LISTEN}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []


def _descriptor(pid: int, inodes: Collection[str]) -> int:
    for descriptor in _descriptors(pid, inodes):
        return descriptor
    raise OSError(f"process {pid} listens on none of the sockets {sorted(inodes)}")


def _descriptors(pid: int, inodes: Collection[str]) -> Iterator[int]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.removeprefix("socket:[").removesuffix("]") in inodes:
            yield int(link.name)
