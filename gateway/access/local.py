"""Access without authentication: from this machine, and from the gateway's own web page."""

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from gateway.access import ALL_ROLES, Caller
from gateway.errors import NotAllowedError


class LocalAuthenticator:
    """Accepts every request that is addressed to this machine.

    Users of this machine have full access, but the web pages that they visit must not, except pages of `origins`. A
    page can send requests to 127.0.0.1, which `Origin` reveals, and can make its own host name resolve to 127.0.0.1
    (DNS rebinding), which `Host` reveals.
    """

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(origins)

    async def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return the local caller; raises NotAllowedError for other host names and origins."""
        host = headers.get("host", "")
        if not is_loopback(_hostname(f"http://{host}")):
            raise NotAllowedError(
                "Without authentication the gateway accepts the host names 127.0.0.1, localhost and [::1] only. "
                "Set RADSERVE_GATEWAY_KEYS to allow others."
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and origin not in (f"http://{host}", f"https://{host}"):
            raise NotAllowedError(
                "The request comes from a web page of another origin. "
                "Add the origin to RADSERVE_GATEWAY_ORIGINS to allow it."
            )
        return Caller("local", ALL_ROLES)


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # other names may resolve to any address
        return False


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
