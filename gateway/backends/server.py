"""The server behind, over HTTP: TorchServe and its supervisor on this machine, or the nginx front of another."""

from __future__ import annotations

import ssl
import time
from typing import Any, Final

import httpx
from pydantic import ValidationError

from gateway.backends.base import Catalog, Question, Reply
from gateway.errors import BadGatewayError, GatewayTimeoutError, NotFoundError, SettingsError, UnavailableError
from gateway.settings import Settings

_FRESH: Final = 2.0
"""Seconds for which what is served is not asked again: rollouts change shares."""
_CONNECT: Final = 3.0


class TorchServe:
    """Asks a server over connections that are kept open."""

    def __init__(self, settings: Settings) -> None:
        self._server = str(settings.server).rstrip("/")
        self._health = settings.health
        self._timeout = settings.timeout
        headers = {"Authorization": f"Bearer {settings.server_key}"} if settings.server_key else {}
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.timeout, connect=min(_CONNECT, settings.timeout)),
            headers=headers | {"User-Agent": "radserve-gateway"},
            verify=_trusted(settings),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
            trust_env=False,
        )
        self._catalog: tuple[float, Catalog] | None = None

    async def ask(self, question: Question) -> Reply:
        """Ask TorchServe; a refusal is a reply as well."""
        path = f"/{question.verb}/{question.model}" + (f"/{question.version}" if question.version else "")
        named = {
            "Content-Type": question.media_type,
            "Content-Encoding": question.encoding,
            "Accept": question.accept,
            "X-Request-Id": question.request_id,
            "X-Client-Id": question.client,
        }
        headers = {name: value for name, value in named.items() if value}
        answer = await self._send("POST", self._server + path, content=question.body, headers=headers)
        found = answer.headers
        return Reply(answer.status_code, found.get("content-type", ""), answer.content, found.get("retry-after", ""))

    async def catalog(self) -> Catalog:
        """Ask the supervisor, or return what it said just now."""
        now = time.monotonic()
        if self._catalog is None or now - self._catalog[0] > _FRESH:
            answer = await self._get("/catalog")
            try:
                self._catalog = (now, Catalog.model_validate_json(answer.content))
            except ValidationError as error:
                raise BadGatewayError(
                    "The server behind does not say what it serves as this gateway understands it; "
                    "are both of the same release?"
                ) from error
        return self._catalog[1]

    async def card(self, name: str, version: str) -> str:
        """Ask the supervisor."""
        return (await self._get(f"/catalog/{name}/{version}/card")).text

    async def sample(self, name: str, version: str) -> bytes:
        """Ask the supervisor."""
        return (await self._get(f"/catalog/{name}/{version}/sample")).content

    async def ready(self) -> str | None:
        """Ask the supervisor."""
        try:
            answer = await self._send("GET", f"{self._health}/ready")
        except (BadGatewayError, GatewayTimeoutError) as error:
            return str(error)
        if answer.status_code == 200:
            return None
        try:
            return str(answer.json()["detail"])
        except (ValueError, KeyError, TypeError):
            return f"The server behind answers /ready with {answer.status_code}."

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get(self, path: str) -> httpx.Response:
        answer = await self._send("GET", self._health + path)
        if answer.status_code == 404:
            raise NotFoundError(
                "The server behind does not serve this model or version; /api/models lists what it serves."
            )
        if answer.status_code in (429, 503):
            raise UnavailableError("The server behind is not ready; try again in some seconds.", {"Retry-After": "5"})
        if answer.status_code != 200:
            raise BadGatewayError(
                f"The server behind answered {answer.status_code} where it should say what it serves."
            )
        return answer

    async def _send(self, method: str, url: str, **words: Any) -> httpx.Response:
        try:
            return await self._http.request(method, url, **words)
        except httpx.ConnectTimeout as error:
            raise BadGatewayError("The server behind cannot be reached; is it running?") from error
        except httpx.TimeoutException as error:
            raise GatewayTimeoutError(
                f"The server behind did not answer within {self._timeout:g} s; it may still be busy with the request."
            ) from error
        except httpx.ConnectError as error:
            raise BadGatewayError("The server behind cannot be reached; is it running?") from error
        except httpx.HTTPError as error:
            raise BadGatewayError(
                "The server behind closed the connection before it answered; its log says why."
            ) from error


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    if settings.server_ca is None:
        return "https" in (settings.server.scheme, settings.health.partition(":")[0])  # 20 ms to read the authorities
    try:
        return ssl.create_default_context(cafile=str(settings.server_ca))
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"RADSERVE_GATEWAY_SERVER_CA: {settings.server_ca} holds no certificates: {error}."
        ) from error
