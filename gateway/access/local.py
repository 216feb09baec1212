"""A gateway that asks nobody for a key: only for its own machine, and for no web page but its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

from gateway.access import EVERYTHING, Caller
from gateway.errors import NotAllowedError

_NAME: Final = "localhost"


class Local:
    """Takes everybody who means this machine.

    Whoever sits at it may ask everything. The web pages that they visit may not: a page can send requests to
    127.0.0.1 (which its `Origin` gives away), and make its own name stand for 127.0.0.1 (which `Host` does).

    Parameters
    ----------
    origins
        Of the pages that may ask all the same.
    """

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the one caller that there is; raises NotAllowed for another name of this machine, or another page."""
        host = headers.get("host", "")
        if not is_loopback(_host(f"http://{host}")):
            raise NotAllowedError(
                "This gateway asks for no key, so it answers under the names 127.0.0.1, localhost and [::1] only. "
                "To be reached by others it needs keys (RADSERVE_GATEWAY_KEYS)."
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin not in (f"http://{host}", f"https://{host}"):
            raise NotAllowedError(
                "The request comes from a web page of another origin, which this gateway does not know "
                "(RADSERVE_GATEWAY_ORIGINS)."
            )
        return Caller("local", EVERYTHING)


def is_loopback(host: str) -> bool:
    """Whether only this machine can mean or reach that host: an address of the loopback, or localhost."""
    if host.lower() == _NAME:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may stand for anything
        return False


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
