"""Closing the listening TCP sockets of a child process from its parent.

TorchServe's gRPC ports cannot be disabled. The supervisor is its parent, so it may duplicate a listening socket
(pidfd_getfd(2), Linux 5.6) and shut it down: the kernel then refuses new connections, and open ones are unaffected.
"""

import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil

_SYS_PIDFD_GETFD: Final = 438  # the same number on every architecture


def stop_listening(pid: int) -> None:
    """Make the kernel refuse new connections to all ports of a child process.

    OSError: the process does not exist, or the kernel forbids it (for example by a seccomp profile).
    """
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error as error:
        raise OSError(errno.ESRCH, str(error)) from error
    for item in connections:
        if item.status == psutil.CONN_LISTEN:
            with _duplicate(pid, item.fd) as listener:
                listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def _duplicate(pid: int, descriptor: int) -> Iterator[socket.socket]:
    """Duplicate a socket of a child process."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = ctypes.CDLL(None, use_errno=True).syscall(_SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    finally:
        os.close(pidfd)
    if copy < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    with socket.socket(fileno=copy) as duplicate:
        yield duplicate
