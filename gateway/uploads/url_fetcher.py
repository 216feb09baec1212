"""Fetches images from URLs: only from hosts that the operator allows, and only from public addresses."""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import unquote

import httpx

from gateway import bounded_response
from gateway.errors import (
    BadGatewayError,
    BadRequestError,
    ContentTooLargeError,
    GatewayTimeoutError,
    NotAllowedError,
    OversizedResponseError,
    ResponseError,
    SettingsError,
)
from gateway.settings import Settings
from gateway.uploads.request_body import RequestBody

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host."""

_SETTING: Final = "RADSERVE_GATEWAY_URL_HOSTS"
_MAX_TIMEOUT: Final = 20.0
_MAX_REDIRECTS: Final = 3
_MAX_ADDRESSES: Final = 3
_MAX_URL: Final = 2048
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"({_LABEL}\.)*{_LABEL}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Last label of a host that resolvers and browsers read as an address: 2130706433, 0x7f.1, 127.1."""
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_HEADERS: Final = {
    "User-Agent": "radserve-gateway",
    "Accept": "image/*, application/dicom, */*;q=0.1",
    **bounded_response.IDENTITY,
}


class UrlFetcher:
    """Fetches images from allowed hosts without exposing private networks.

    The host name is resolved once, all its addresses are checked, and the connection uses a checked address while the
    certificate must match the name, so a DNS response that changes has no effect. Every redirect is checked like the
    first URL. The request carries nothing of the caller, and errors carry nothing of the response.

    The keyword arguments replace DNS, the address check, the trusted authorities and the https port in tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resolve: Resolver | None = None,
        is_public: Callable[[str], bool] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        port: int = 443,
    ) -> None:
        self._hosts = frozenset(_parse_allowed_host(host) for host in settings.url_hosts)
        self._max_bytes = settings.max_bytes
        self._timeout = min(_MAX_TIMEOUT, settings.timeout)
        self._resolve = resolve or _resolve
        self._is_public = is_public or is_public_address
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        self._port = port

    async def fetch(self, value: str) -> RequestBody:
        """Return the image at a URL.

        Raises BadRequestError or NotAllowedError if the URL is invalid or its host is not allowed, BadGatewayError,
        GatewayTimeoutError or ContentTooLargeError if the host does not return an image in time, or a too large one.
        """
        url = _parse(value)
        try:
            async with asyncio.timeout(self._timeout):
                for _ in range(_MAX_REDIRECTS + 1):
                    content = await self._get(url)
                    if isinstance(content, bytes):
                        return RequestBody(content, "application/octet-stream", names=(_file_name(url),))
                    url = _parse(content)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise GatewayTimeoutError(f"The URL's host did not send the image within {self._timeout:g} s.") from error
        except httpx.HTTPError as error:
            raise BadGatewayError(
                "Cannot fetch the image: its host is unreachable, or its certificate is invalid."
            ) from error
        raise BadGatewayError(f"The URL redirects more than {_MAX_REDIRECTS} times; use the URL of the image itself.")

    async def _get(self, url: httpx.URL) -> bytes | str:
        """Return the content of a URL, or the URL that it redirects to."""
        async with self._open(url, await self._checked_addresses(url)) as response:
            if response.is_redirect:
                return _redirect_target(url, response.headers.get("location", ""))
            if response.status_code != 200:
                raise BadGatewayError(f"The URL's host returned status {response.status_code} instead of an image.")
            return await self._read(response)

    async def _checked_addresses(self, url: httpx.URL) -> list[str]:
        host = _host(url)
        if host not in self._hosts:
            raise NotAllowedError(f"The URL's host is not allowed; ask the operator to add it to {_SETTING}.")
        try:
            addresses = list(await self._resolve(host))
        except (OSError, UnicodeError) as error:
            raise BadGatewayError("The URL's host has no address.") from error
        if not addresses:
            raise BadGatewayError("The URL's host has no address.")
        if not all(self._is_public(address) for address in addresses):
            raise NotAllowedError("The URL's host has a private address; images are fetched from public hosts only.")
        return addresses

    @contextlib.asynccontextmanager
    async def _open(self, url: httpx.URL, addresses: Sequence[str]) -> AsyncIterator[httpx.Response]:
        """Send the request to the first address that accepts a connection, with a new client that has no cookies."""
        host = _host(url)
        async with httpx.AsyncClient(verify=self._ssl_context, trust_env=False, timeout=self._timeout) as http:
            candidates = addresses[:_MAX_ADDRESSES]
            for address in candidates:
                request = http.build_request(
                    "GET",
                    url.copy_with(host=address, port=self._port),
                    headers=_HEADERS | {"Host": host},
                    extensions={"sni_hostname": host},
                )
                try:
                    response = await http.send(request, stream=True)
                except httpx.ConnectError:
                    if address == candidates[-1]:
                        raise
                    continue
                try:
                    yield response
                finally:
                    await response.aclose()
                return

    async def _read(self, response: httpx.Response) -> bytes:
        try:
            content = await bounded_response.read(response, self._max_bytes)
        except OversizedResponseError as error:
            raise ContentTooLargeError(f"The image at the URL exceeds the limit of {self._max_bytes} bytes.") from error
        except ResponseError as error:
            raise BadGatewayError("The URL's host compressed the image although the request excludes that.") from error
        if not content:
            raise BadGatewayError("The URL's host sent an empty response.")
        return content


def is_public_address(address: str) -> bool:
    """Return whether an address is a globally reachable unicast address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return False
        if parsed in _NAT64:  # embeds an IPv4 address
            return is_public_address(str(ipaddress.IPv4Address(parsed.packed[-4:])))
        if parsed not in _GLOBAL_6 or parsed.sixtofour is not None or parsed.teredo is not None:
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def _parse(text: str) -> httpx.URL:
    """Parse a URL, and reject everything that different parsers could read as different hosts."""
    if len(text) > _MAX_URL:
        raise BadRequestError(f"The URL exceeds {_MAX_URL} characters.")
    if not text.isprintable() or " " in text or "\\" in text:
        raise BadRequestError("The URL contains invalid characters.")
    try:
        url = httpx.URL(text)
        host = _host(url)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise BadRequestError("Invalid URL; use https://HOST/PATH.") from error
    if url.scheme != "https":
        raise NotAllowedError("The URL must use https.")
    if url.userinfo or "@" in re.split(r"[/?#]", text.partition("//")[2], maxsplit=1)[0]:
        raise NotAllowedError("The URL must not contain a user name or password.")
    if url.port not in (None, 443):
        raise NotAllowedError("The URL must use port 443.")
    if not _is_host_name(host):
        raise NotAllowedError(f"The URL's host is an address; use its name as in {_SETTING}.")
    return url.copy_with(fragment=None)


def _host(url: httpx.URL) -> str:
    """Return the host as in DNS: lower case, international names in ASCII (IDNA)."""
    return url.raw_host.decode("ascii").lower().removesuffix(".")


def _is_host_name(host: str) -> bool:
    return bool(_HOST.fullmatch(host)) and not _NUMBER.fullmatch(host.rpartition(".")[2])


def _parse_allowed_host(host: str) -> str:
    try:
        name = _host(httpx.URL(f"https://{host}/"))
    except (httpx.InvalidURL, UnicodeError, ValueError):
        name = ""
    if not _is_host_name(name) or any(character in host for character in "/:@?#"):
        raise SettingsError(f"{_SETTING} has value {host!r}; use host names: images.example.org.")
    return name


def _redirect_target(url: httpx.URL, location: str) -> str:
    """Return the target of a redirect, which is checked like any other URL."""
    if not location or not location.isprintable():
        raise BadGatewayError("The URL's host sent a redirect without a target.")
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise BadGatewayError("The URL's host sent a redirect to an invalid URL.") from error


def _file_name(url: httpx.URL) -> str | None:
    name = unquote(url.path).rpartition("/")[2][:255]
    return name if name and name.isprintable() else None


async def _resolve(host: str) -> list[str]:
    records = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(record[4][0]) for record in records))
