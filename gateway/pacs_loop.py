"""Requests the cases of a PACS loop (`radserve pacs`) from its status endpoint."""

import asyncio
from collections.abc import Mapping
from typing import Final, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from gateway import bounded_response
from gateway.errors import BadGatewayError, NotFoundError, ProblemError, ResponseError, UnavailableError
from gateway.settings import Settings
from radserve.schema.cases import Cases, Resent

_TIMEOUT: Final = 10.0
_MAX_BYTES: Final = 4 * 1024 * 1024
_Document = TypeVar("_Document", bound=BaseModel)


class PacsLoop:
    """One loop. All methods raise ProblemError."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= bounded_response.IDENTITY
        verify = url.startswith("https")  # loading the certificate authorities takes 20 ms
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, headers=headers, trust_env=False, verify=verify)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Create a client for the loop that the settings name; None if they name none."""
        return cls(str(settings.pacs), settings.pacs_token) if settings.pacs else None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def cases(self, parameters: Mapping[str, str | int]) -> Cases:
        """Return a page of cases."""
        return await self._send("GET", "/cases", Cases, parameters)

    async def resend(self, number: int | None = None) -> Resent:
        """Return a failed case, or all of them, to the queue."""
        return await self._send("POST", "/cases/resend" if number is None else f"/cases/{number}/resend", Resent, {})

    async def _send(
        self, method: str, path: str, kind: type[_Document], parameters: Mapping[str, str | int]
    ) -> _Document:
        try:
            async with (
                asyncio.timeout(_TIMEOUT),
                self._http.stream(method, self._url + path, params=parameters) as response,
            ):
                body = await bounded_response.read(response, _MAX_BYTES)
            document = bounded_response.parse_json(body)
            if response.status_code == 200:
                return kind.model_validate(document)
            raise _problem(response.status_code, str(document["detail"])[:1000])
        except (httpx.HTTPError, TimeoutError) as error:
            raise UnavailableError(
                f"The PACS loop at {self._url} does not respond. Start `radserve pacs` with the setting `status`, or "
                "correct RADSERVE_GATEWAY_PACS.",
                {"Retry-After": "5"},
            ) from error
        except (ResponseError, ValidationError, KeyError, TypeError) as error:
            raise BadGatewayError(
                f"{self._url} sends no list of cases; use the address of `status`, and the same release."
            ) from error


def _problem(status: int, detail: str) -> ProblemError:
    if status == 409:
        return ProblemError(detail, status=status, title="Conflict")
    if status in (401, 403):
        return BadGatewayError("The PACS loop rejects the gateway's token; see RADSERVE_GATEWAY_PACS_TOKEN.")
    return UnavailableError(f"The PACS loop returned status {status}: {detail}", {"Retry-After": "5"})


def disabled() -> NotFoundError:
    """Return the error of a gateway without a loop."""
    return NotFoundError(
        "No PACS loop is connected. Add `status: {address: 127.0.0.1:8095}` to its settings, and start the gateway "
        "with RADSERVE_GATEWAY_PACS=http://127.0.0.1:8095."
    )
