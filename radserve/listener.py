"""Closing the door of a server that cannot close it itself.

TorchServe has no way to stop accepting while it finishes what it has: SIGTERM drops both. The supervisor is
its parent, so it may take a copy of the listening socket (pidfd_getfd(2), Linux 5.6) and shut that down: new
connections are refused by the kernel from then on, open ones are not touched.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

_SYS_PIDFD_GETFD: Final = 438
"""The same number on every architecture."""
_LISTEN: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


def stop_listening(pid: int, port: int) -> None:
    """Let the kernel refuse new connections to a port on which a child process listens.

    Raises
    ------
    OSError
        If the kernel does not allow it (a seccomp profile may), or nobody listens there.
    """
    inodes = {inode for inode, where in _listening().items() if where == port}
    _shut(pid, _descriptor(pid, inodes))


def stop_listening_but(pid: int, ports: Collection[int]) -> None:
    """Let the kernel refuse new connections to all ports on which a child process listens, but for these.

    Raises
    ------
    OSError
        If the kernel does not allow it.
    """
    inodes = {inode for inode, where in _listening().items() if where not in ports}
    for descriptor in _descriptors(pid, inodes):
        _shut(pid, descriptor)


def _shut(pid: int, descriptor: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    finally:
        os.close(pidfd)
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(fileno=copy) as listener:
        listener.shutdown(socket.SHUT_RDWR)


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
