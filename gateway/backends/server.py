"""Backend that sends requests to TorchServe and its supervisor on this machine, or to the proxy of another."""

import asyncio
import re
import ssl
import time
from typing import Any, Final

import httpx
from pydantic import ValidationError

from gateway import bounded_response
from gateway.backends.base import MAX_RESPONSE, PICTURE_HEADERS, ModelRequest, ModelResponse, unknown_model
from gateway.errors import BadGatewayError, GatewayTimeoutError, ResponseError, SettingsError, UnavailableError
from gateway.settings import Settings
from radserve.schema.catalog import Catalog

_CATALOG_MAX_AGE: Final = 2.0
"""Seconds; rollouts change the shares of versions."""
_CONNECT_TIMEOUT: Final = 3.0
_MAX_DOCUMENT: Final = 4 * 1024 * 1024
"""Bytes of a response of the supervisor: a catalog of 1,000 versions has about 1 MB."""
_SECONDS: Final = re.compile(r"[0-9]{1,6}")
"""Value of Retry-After."""
_MAX_DETAIL: Final = 1000
"""Characters of the server's reason why it is not ready."""


class ServerBackend:
    """Sends requests over connections that are kept open."""

    def __init__(self, settings: Settings) -> None:
        self._server = str(settings.server).rstrip("/")
        self._supervisor = settings.supervisor_url
        self._timeout = settings.timeout
        headers = {"Authorization": f"Bearer {settings.server_key}"} if settings.server_key else {}
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.timeout, connect=min(_CONNECT_TIMEOUT, settings.timeout)),
            headers=headers | {"User-Agent": "radserve-gateway"} | bounded_response.IDENTITY,
            verify=_ssl_context(settings),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
            trust_env=False,
        )
        self._catalog: tuple[float, Catalog] | None = None

    async def infer(self, request: ModelRequest) -> ModelResponse:
        """Send a request to TorchServe."""
        path = f"/{request.verb}/{request.model}" + (f"/{request.version}" if request.version else "")
        url = self._server + path
        return await self._send("POST", url, MAX_RESPONSE, content=request.body, headers=request.headers)

    async def catalog(self) -> Catalog:
        """Return the supervisor's catalog, cached for a few seconds."""
        now = time.monotonic()
        if self._catalog is None or now - self._catalog[0] > _CATALOG_MAX_AGE:
            body = await self._get("/catalog", "application/json")
            try:
                self._catalog = (now, Catalog.model_validate(bounded_response.parse_json(body)))
            except (ResponseError, ValidationError) as error:
                raise BadGatewayError(
                    "The analysis service sent an invalid catalog; use the same release of server and gateway."
                ) from error
        return self._catalog[1]

    async def card(self, name: str, version: str) -> str:
        """Return the model card from the supervisor."""
        body = await self._get(f"/catalog/{name}/{version}/card", "text/markdown")
        return body.decode(errors="replace")

    async def sample(self, name: str, version: str) -> bytes:
        """Return the sample image from the supervisor."""
        return await self._get(f"/catalog/{name}/{version}/sample", "application/octet-stream", MAX_RESPONSE)

    async def ready(self) -> str | None:
        """Return the supervisor's readiness."""
        try:
            response = await self._send("GET", f"{self._supervisor}/ready", _MAX_DOCUMENT)
        except (BadGatewayError, GatewayTimeoutError) as error:
            return str(error)
        if response.status == 200:
            return None
        try:
            return str(bounded_response.parse_json(response.body)["detail"])[:_MAX_DETAIL]
        except (ResponseError, KeyError, TypeError):
            return f"The analysis service returned status {response.status} for /ready."

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get(self, path: str, media_type: str, max_bytes: int = _MAX_DOCUMENT) -> bytes:
        response = await self._send("GET", self._supervisor + path, max_bytes)
        if response.status == 404:
            raise unknown_model()
        if response.status in (429, 503):
            raise UnavailableError(
                "The analysis service is not ready; try again in a few seconds.", {"Retry-After": "5"}
            )
        if response.status != 200:
            raise BadGatewayError(f"The analysis service returned status {response.status} for its catalog.")
        if bounded_response.media_type(response.media_type) != media_type:
            raise BadGatewayError(f"The analysis service sent another media type than {media_type} for its catalog.")
        return response.body

    async def _send(self, method: str, url: str, max_bytes: int, **options: Any) -> ModelResponse:
        try:
            async with asyncio.timeout(self._timeout), self._http.stream(method, url, **options) as response:
                body = await bounded_response.read(response, max_bytes)
        except (httpx.ConnectTimeout, httpx.ConnectError) as error:
            raise BadGatewayError("The analysis service is unreachable; it is starting or down.") from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise GatewayTimeoutError(
                f"The analysis service did not respond within {self._timeout:g} s; it may still process the request."
            ) from error
        except httpx.HTTPError as error:
            raise BadGatewayError(
                "The analysis service closed the connection before it responded; see its log."
            ) from error
        except ResponseError as error:
            raise BadGatewayError(f"The analysis service sent an unusable response: {error}.") from error
        passed = {name: response.headers.get(name, "") for name in PICTURE_HEADERS}
        media_type, retry_after = (response.headers.get(name, "") for name in ("content-type", "retry-after"))
        return ModelResponse(
            response.status_code,
            media_type,
            body,
            retry_after if _SECONDS.fullmatch(retry_after) else "",
            {name: value for name, value in passed.items() if value and value.isascii() and value.isprintable()},
        )


def _ssl_context(settings: Settings) -> ssl.SSLContext | bool:
    if settings.server_ca is None:
        # False without https: loading the certificate authorities takes 20 ms.
        return "https" in (settings.server.scheme, settings.supervisor_url.partition(":")[0])
    try:
        return ssl.create_default_context(cafile=str(settings.server_ca))
    except OSError as error:  # includes ssl.SSLError
        raise SettingsError(
            f"RADSERVE_GATEWAY_SERVER_CA: cannot read certificates from {settings.server_ca}: {error}."
        ) from error
