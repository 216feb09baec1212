"""Images at URLs: only from hosts that the operator allows, and only at addresses that are everybody's."""

from __future__ import annotations

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

from gateway.access import Caller
from gateway.errors import (
    BadGatewayError,
    BadRequestError,
    ContentTooLargeError,
    GatewayTimeoutError,
    NotAllowedError,
    ProblemError,
    SettingsError,
)
from gateway.settings import Settings
from gateway.uploads.request_body import Body

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a host."""

_SETTING: Final = "RADSERVE_GATEWAY_URL_HOSTS"
_SECONDS: Final = 20.0
_REDIRECTS: Final = 3
_ADDRESSES: Final = 3
_LONGEST: Final = 2048
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"({_LABEL}\.)*{_LABEL}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""Last label of a host that resolvers and browsers read as an address: 2130706433, 0x7f.1, 127.1."""
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_HEADERS: Final = {"User-Agent": "radserve-gateway", "Accept": "image/*, application/dicom, */*;q=0.1"} | {
    "Accept-Encoding": "identity"  # what unpacks to more than it was is not taken
}


class Fetch:
    """Gets images from hosts of the operator's list, without ever asking a private network.

    The name is resolved once, all its addresses are checked, and the connection goes to one that was checked, while
    the certificate has to be the name's: a DNS answer that changes moves nothing. Redirects are followed one by one,
    each as carefully as the first URL. Nothing of the caller is sent, nor is anything of a failed answer passed on.

    Parameters
    ----------
    resolve, public, trusted, port
        How addresses are found and judged, which authorities are trusted, and the port of https; tests have others.

    Raises
    ------
    SettingsError
        If a host of the list is no name of a host.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        resolve: Resolve | None = None,
        public: Callable[[str], bool] | None = None,
        trusted: ssl.SSLContext | None = None,
        port: int = 443,
    ) -> None:
        self._hosts = frozenset(_listed(host) for host in settings.url_hosts)
        self._max = settings.max_bytes
        self._seconds = min(_SECONDS, settings.timeout)
        self._resolve = resolve or _addresses
        self._public = public or is_public
        self._trusted = trusted or httpx.create_ssl_context(trust_env=False)
        self._port = port

    async def fetch(self, value: str, caller: Caller) -> Body:  # noqa: ARG002 - all callers may name the same hosts
        """Return the image at a URL.

        Raises
        ------
        BadRequest, NotAllowed
            If the URL is none, or one of a host that is not allowed.
        BadGateway, GatewayTimeout, ContentTooLarge
            If the host does not answer with an image in time, or with too long a one.
        """
        url = _parse(value)
        try:
            async with asyncio.timeout(self._seconds):
                for _ in range(_REDIRECTS + 1):
                    found = await self._get(url)
                    if isinstance(found, bytes):
                        return Body(found, "application/octet-stream", names=(_name(url),))
                    url = _parse(found)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise GatewayTimeoutError(f"The URL's host did not send the image within {self._seconds:g} s.") from error
        except httpx.HTTPError as error:
            raise BadGatewayError(
                "The image cannot be fetched: its host cannot be reached, or its certificate is not valid."
            ) from error
        raise BadGatewayError(f"The URL leads to another more than {_REDIRECTS} times; name the image's own.")

    async def _get(self, url: httpx.URL) -> bytes | str:
        """Return what is at a URL, or the URL that it redirects to."""
        async with self._open(url, await self._checked(url)) as answer:
            if answer.is_redirect:
                return _target(url, answer.headers.get("location", ""))
            if answer.status_code != 200:
                raise BadGatewayError(f"The URL's host answered {answer.status_code} instead of an image.")
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise BadGatewayError("The URL's host sent the image compressed although it was asked not to.")
            return await self._read(answer)

    async def _checked(self, url: httpx.URL) -> list[str]:
        """Return the addresses of a URL's host after all checks."""
        host = _host(url)
        if host not in self._hosts:
            raise NotAllowedError(
                f"Images are fetched from the hosts that the operator allows ({_SETTING}) only, and this URL's is none."
            )
        try:
            addresses = list(await self._resolve(host))
        except (OSError, UnicodeError) as error:
            raise BadGatewayError("The URL's host has no address.") from error
        if not addresses:
            raise BadGatewayError("The URL's host has no address.")
        if not all(self._public(address) for address in addresses):
            raise NotAllowedError("The URL's host has an address that is not public, so nothing is fetched from it.")
        return addresses

    @contextlib.asynccontextmanager
    async def _open(self, url: httpx.URL, addresses: Sequence[str]) -> AsyncIterator[httpx.Response]:
        """Ask the first address that takes a connection; with a client of its own, which keeps no cookies."""
        host = _host(url)
        async with httpx.AsyncClient(verify=self._trusted, trust_env=False, timeout=self._seconds) as http:
            tried = addresses[:_ADDRESSES]
            for place, address in enumerate(tried, 1):
                request = http.build_request(
                    "GET",
                    url.copy_with(host=address, port=self._port),
                    headers=_HEADERS | {"Host": host},
                    extensions={"sni_hostname": host},
                )
                try:
                    answer = await http.send(request, stream=True)
                except httpx.ConnectError:
                    if place == len(tried):
                        raise
                    continue
                try:
                    yield answer
                finally:
                    await answer.aclose()
                return

    async def _read(self, answer: httpx.Response) -> bytes:
        length = answer.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max:
            raise self._too_long()
        content = bytearray()
        async for piece in answer.aiter_raw():
            content += piece
            if len(content) > self._max:
                raise self._too_long()
        if not content:
            raise BadGatewayError("The URL's host sent nothing.")
        return bytes(content)

    def _too_long(self) -> ProblemError:
        return ContentTooLargeError(f"What is at the URL has more than the {self._max} bytes that are taken here.")


def is_public(address: str) -> bool:
    """Whether an address is one that everybody on the Internet means the same by, and a single machine's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return False
        if found in _NAT64:  # stands for an address of version 4, where there is no other way to it
            return is_public(str(ipaddress.IPv4Address(found.packed[-4:])))
        if found not in _GLOBAL_6 or found.sixtofour is not None or found.teredo is not None:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def _parse(text: str) -> httpx.URL:
    """Read a URL and refuse what could mean a host to us and another one to others."""
    if len(text) > _LONGEST:
        raise BadRequestError(f"The URL is longer than {_LONGEST} characters.")
    if not text.isprintable() or " " in text or "\\" in text:
        raise BadRequestError("The URL has characters that no URL has.")
    try:
        url = httpx.URL(text)
        host = _host(url)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise BadRequestError("The URL cannot be read; write https://HOST/PATH.") from error
    if url.scheme != "https":
        raise NotAllowedError("Images are fetched by https only.")
    if url.userinfo or "@" in re.split(r"[/?#]", text.partition("//")[2], maxsplit=1)[0]:
        raise NotAllowedError("The URL holds a name or password; images are fetched without.")
    if url.port not in (None, 443):
        raise NotAllowedError("Images are fetched from port 443 only.")
    if not _named(host):
        raise NotAllowedError(f"The URL's host is an address; name it as the operator does ({_SETTING}).")
    return url.copy_with(fragment=None)


def _host(url: httpx.URL) -> str:
    """Return the host as DNS has it: lower case, international names in ASCII (IDNA)."""
    return url.raw_host.decode("ascii").lower().removesuffix(".")


def _named(host: str) -> bool:
    """Whether it is a name, not an address in any spelling."""
    return bool(_HOST.fullmatch(host)) and not _NUMBER.fullmatch(host.rpartition(".")[2])


def _listed(host: str) -> str:
    try:
        found = _host(httpx.URL(f"https://{host}/"))
    except (httpx.InvalidURL, UnicodeError, ValueError):
        found = ""
    if not _named(found) or any(sign in host for sign in "/:@?#"):
        raise SettingsError(f"{_SETTING} has value {host!r}; write names of hosts: images.example.org.")
    return found


def _target(url: httpx.URL, location: str) -> str:
    """Return what a redirect leads to; the sender's choice, so checked like any URL."""
    if not location or not location.isprintable():
        raise BadGatewayError("The URL's host redirects to nowhere.")
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise BadGatewayError("The URL's host redirects to what is no URL.") from error


def _name(url: httpx.URL) -> str | None:
    name = unquote(url.path).rpartition("/")[2][:255]
    return name if name and name.isprintable() else None


async def _addresses(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))
