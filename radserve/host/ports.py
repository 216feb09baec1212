"""Addresses and ports to listen on."""

import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import Final

from radserve.errors import ServeError

LOOPBACK: Final = "127.0.0.1"
_BACKLOG: Final = 511  # connections that wait until they are accepted; nginx's default


def parse_address(host: str, option: str = "--host") -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an IP address or `localhost`; reject any other host name, because what it resolves to may change."""
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ServeError(f"{option} has value {host!r}; write an IP address, like 127.0.0.1, 0.0.0.0 or ::.") from error


def require_free(ports: Mapping[str, tuple[str, int]]) -> None:
    """Check that ports, by option, are free and differ; TorchServe and nginx would report a conflict only in a log.

    One ServeError names every port that is not free.
    """
    options: dict[int, str] = {}
    problems = []
    for option, (host, port) in ports.items():
        if port in options:
            raise ServeError(f"{option} and {options[port]} have the same value {port}; choose two.")
        options[port] = option
        try:
            listen(option, host, port).close()
        except ServeError as error:
            problems.append(str(error))
    if problems:
        raise ServeError("\n".join(problems))


def listen(option: str, host: str, port: int) -> socket.socket:
    """Listen on a port that a command-line option chose; `::` includes IPv4."""
    address = parse_address(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    everywhere = str(address) == "::"
    try:
        return socket.create_server((str(address), port), family=family, backlog=_BACKLOG, dualstack_ipv6=everywhere)
    except (OSError, ValueError) as error:  # ValueError: `::` where the kernel has no IPv6
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error)
        if number == errno.EADDRINUSE:
            raise ServeError(f"{host}: port {port} is taken ({reason}); choose another {option}.") from error
        raise ServeError(f"{host}: cannot listen on port {port} ({reason}); change the host or {option}.") from error
