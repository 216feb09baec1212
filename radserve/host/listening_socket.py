"""Closing the listening sockets of a child process from its parent.

TorchServe cannot stop accepting connections while it finishes its requests: SIGTERM ends both. The supervisor is its
parent, so it may duplicate the listening socket (pidfd_getfd(2), Linux 5.6) and shut it down: the kernel then refuses
new connections, and open ones are unaffected.

A shutdown resets connections that the kernel has completed and the process has not accepted yet, and their clients may
have sent a request. Therefore a socket filter first drops every SYN until the process has accepted the waiting
connections. A client that connects meanwhile retransmits its SYN after a second (RFC 6298, section 2.1) and is refused.
"""

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

import psutil

_SYS_PIDFD_GETFD: Final = 438  # the same number on every architecture
_SO_ATTACH_FILTER: Final = 26
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the flags byte; the filter of a TCP socket sees segments from their header on
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop the segment
    (0x06, 0, 0, 0xFFFFFFFF),  # accept all of it
)
"""A classic BPF program (socket(7)): code, jump if true, jump if false, value."""
_TCPI_UNACKED: Final = 24
"""Offset of `tcpi_unacked` in TCP_INFO: for a listening socket, the number of connections waiting to be accepted."""
_ACCEPT_TIMEOUT: Final = 2.0  # seconds for the process to accept them; a process that takes longer hangs


def stop_listening(pid: int, port: int) -> None:
    """Make the kernel refuse new connections to a port of a child process, once it has accepted the waiting ones.

    OSError: it does not listen on the port, or the kernel forbids it (for example by a seccomp profile).
    """
    descriptors = [descriptor for descriptor, listening in _listening(pid) if listening == port]
    if not descriptors:
        raise OSError(errno.ENOTCONN, f"process {pid} does not listen on port {port}")
    for descriptor in descriptors:
        with _duplicate(pid, descriptor) as listener:
            _wait_until_accepted(listener)
            listener.shutdown(socket.SHUT_RDWR)


def stop_listening_except(pid: int, ports: Collection[int]) -> None:
    """Make the kernel refuse new connections to all other ports of a child process; OSError if it forbids that."""
    for descriptor, port in _listening(pid):
        if port not in ports:
            with _duplicate(pid, descriptor) as listener:
                listener.shutdown(socket.SHUT_RDWR)


def _listening(pid: int) -> list[tuple[int, int]]:
    """Return descriptor and port of each listening TCP socket of a process."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error as error:
        raise OSError(errno.ESRCH, str(error)) from error
    return [(item.fd, item.laddr.port) for item in connections if item.status == psutil.CONN_LISTEN]


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


def _wait_until_accepted(listener: socket.socket) -> None:
    """Drop new connections and wait until the process has accepted the waiting ones."""
    program = b"".join(struct.pack("@HBBI", *step) for step in _DROP_SYN)
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)
    deadline = time.monotonic() + _ACCEPT_TIMEOUT
    while _waiting(listener) and time.monotonic() < deadline:
        time.sleep(0.005)


def _waiting(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
    return int(struct.unpack_from("@I", info, _TCPI_UNACKED)[0])
