"""Backend that sends requests to TorchServe and its supervisor on this machine, or to the proxy of another."""

import ssl
import time
from typing import Any, Final

import httpx
from pydantic import ValidationError

from gateway.backends.base import ModelRequest, ModelResponse, unknown_model
from gateway.errors import BadGatewayError, GatewayTimeoutError, SettingsError, UnavailableError
from gateway.settings import Settings
from radserve.schema.catalog import Catalog

_CATALOG_MAX_AGE: Final = 2.0
"""Seconds; rollouts change the shares of versions."""
_CONNECT_TIMEOUT: Final = 3.0


class ServerBackend:
    """Sends requests over connections that are kept open."""

    def __init__(self, settings: Settings) -> None:
        self._server = str(settings.server).rstrip("/")
        self._supervisor = settings.supervisor_url
        self._timeout = settings.timeout
        headers = {"Authorization": f"Bearer {settings.server_key}"} if settings.server_key else {}
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.timeout, connect=min(_CONNECT_TIMEOUT, settings.timeout)),
            headers=headers | {"User-Agent": "radserve-gateway"},
            verify=_ssl_context(settings),
            limits=httpx.Limits(max_connections=256, max_keepalive_connections=64),
            trust_env=False,
        )
        self._catalog: tuple[float, Catalog] | None = None

    async def infer(self, request: ModelRequest) -> ModelResponse:
        """Send a request to TorchServe."""
        path = f"/{request.verb}/{request.model}" + (f"/{request.version}" if request.version else "")
        response = await self._send("POST", self._server + path, content=request.body, headers=request.headers)
        media_type, retry_after = (response.headers.get(name, "") for name in ("content-type", "retry-after"))
        return ModelResponse(response.status_code, media_type, response.content, retry_after)

    async def catalog(self) -> Catalog:
        """Return the supervisor's catalog, cached for a few seconds."""
        now = time.monotonic()
        if self._catalog is None or now - self._catalog[0] > _CATALOG_MAX_AGE:
            response = await self._get("/catalog")
            try:
                self._catalog = (now, Catalog.model_validate_json(response.content))
            except ValidationError as error:
                raise BadGatewayError(
                    "The analysis service sent an invalid catalog; use the same release of server and gateway."
                ) from error
        return self._catalog[1]

    async def card(self, name: str, version: str) -> str:
        """Return the model card from the supervisor."""
        return (await self._get(f"/catalog/{name}/{version}/card")).text

    async def sample(self, name: str, version: str) -> bytes:
        """Return the sample image from the supervisor."""
        return (await self._get(f"/catalog/{name}/{version}/sample")).content

    async def ready(self) -> str | None:
        """Return the supervisor's readiness."""
        try:
            response = await self._send("GET", f"{self._supervisor}/ready")
        except (BadGatewayError, GatewayTimeoutError) as error:
            return str(error)
        if response.status_code == 200:
            return None
        try:
            return str(response.json()["detail"])
        except (ValueError, KeyError, TypeError):
            return f"The analysis service returned status {response.status_code} for /ready."

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get(self, path: str) -> httpx.Response:
        response = await self._send("GET", self._supervisor + path)
        if response.status_code == 404:
            raise unknown_model()
        if response.status_code in (429, 503):
            raise UnavailableError(
                "The analysis service is not ready; try again in a few seconds.", {"Retry-After": "5"}
            )
        if response.status_code != 200:
            raise BadGatewayError(f"The analysis service returned status {response.status_code} for its catalog.")
        return response

    async def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            return await self._http.request(method, url, **options)
        except (httpx.ConnectTimeout, httpx.ConnectError) as error:
            raise BadGatewayError("The analysis service is unreachable; it is starting or down.") from error
        except httpx.TimeoutException as error:
            raise GatewayTimeoutError(
                f"The analysis service did not respond within {self._timeout:g} s; it may still process the request."
            ) from error
        except httpx.HTTPError as error:
            raise BadGatewayError(
                "The analysis service closed the connection before it responded; see its log."
            ) from error


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
