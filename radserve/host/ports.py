"""Ports that this program wants to listen on."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

from radserve.errors import ServeError


def address(host: str, option: str = "--host") -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address to listen on.

    Raises
    ------
    ServeError
        If it is none: what a name stands for may change.
    """
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ServeError(f"{option} has value {host!r}; write an address, like 127.0.0.1, 0.0.0.0 or ::.") from error


def require_free(wanted: Mapping[str, tuple[str, int]]) -> None:
    """Refuse to start where somebody listens already; TorchServe and nginx would say so only in their logs.

    Parameters
    ----------
    wanted
        Option that chooses the port -> host and port.

    Raises
    ------
    ServeError
        Naming the first that is taken, or wanted twice.
    """
    seen: dict[int, str] = {}
    for option, (host, port) in wanted.items():
        if port in seen:
            raise ServeError(f"{option} and {seen[port]} have the same value {port}; choose two.")
        seen[port] = option
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                message = f"{host}: port {port} is taken ({error.strerror}); choose another {option}."
                raise ServeError(message) from error
