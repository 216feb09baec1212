"""Closing the door of a server that cannot close it itself.

TorchServe has no way to stop accepting while it finishes what it has: SIGTERM drops both. The supervisor is
its parent, so it may take a copy of the listening socket (pidfd_getfd(2), Linux 5.6) and shut that down: new
connections are refused by the kernel from then on, open ones are not touched.
"""

from __future__ import annotations

import ctypes
import os
import socket
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
    descriptor = _descriptor(pid, _inodes(port))
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


def _inodes(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a port."""
    lines = [line for name in ("tcp", "tcp6") for line in _lines(Path("/proc/net") / name)]
    fields = [line.split() for line in lines]
    return {item[9] for item in fields if item[3] == _LISTEN and int(item[1].rpartition(":")[2], 16) == port}


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else []


def _descriptor(pid: int, inodes: set[str]) -> int:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.removeprefix("socket:[").removesuffix("]") in inodes:
            return int(link.name)
    raise OSError(f"process {pid} listens on none of the sockets {sorted(inodes)}")
