"""Addresses and ports to listen on."""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Final

from radserve.errors import ServeError

LOOPBACK: Final = "127.0.0.1"


def parse_address(host: str, option: str = "--host") -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an IP address or `localhost`; reject any other host name, because what it resolves to may change."""
    try:
        return ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise ServeError(f"{option} has value {host!r}; write an IP address, like 127.0.0.1, 0.0.0.0 or ::.") from error


def require_free(ports: Mapping[str, tuple[str, int]]) -> None:
    """Check that ports, by option, are free and differ; TorchServe and nginx would report a conflict only in a log."""
    options: dict[int, str] = {}
    for option, (host, port) in ports.items():
        if port in options:
            raise ServeError(f"{option} and {options[port]} have the same value {port}; choose two.")
        options[port] = option
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                message = f"{host}: port {port} is taken ({error.strerror}); choose another {option}."
                raise ServeError(message) from error
