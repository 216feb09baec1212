"""Interface of backends, and the values that they exchange with the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from gateway.errors import NotFoundError
from radserve.schema.catalog import Catalog

Verb = Literal["predictions", "explanations"]
MAX_RESPONSE: Final = 32 * 1024 * 1024
"""Bytes of a response; max_response_size in config.properties."""

PICTURE_HEADERS: Final = ("X-Domain", "X-Repair")
"""Header fields of a picture: what it does not show."""


def unknown_model() -> NotFoundError:
    """Return the error for a model or version that the backend does not serve."""
    return NotFoundError("Unknown model or version; see /api/models.")


@dataclass(frozen=True)
class ModelRequest:
    """Request to a model.

    Without a `version` the server chooses, which may split requests between versions; requests with the same `client`
    reach the same version. `media_type`, `encoding`, `accept`, `assurances` (what the caller states about the images)
    and `repair` (a rotation or inversion before the analysis) are header fields; empty ones are not sent.
    `request_id` joins the log lines of gateway and server, and `traceparent` their spans.
    """

    verb: Verb
    model: str
    version: str | None
    body: bytes
    media_type: str = ""
    encoding: str = ""
    accept: str = "application/json"
    assurances: str = ""
    repair: str = ""
    request_id: str = ""
    client: str = ""
    traceparent: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Header fields for the model server."""
        fields = {
            "Content-Type": self.media_type,
            "Content-Encoding": self.encoding,
            "Accept": self.accept,
            "X-Assurances": self.assurances,
            "X-Repair": self.repair,
            "X-Request-Id": self.request_id,
            "X-Client-Id": self.client,
            "Traceparent": self.traceparent,
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True)
class ModelResponse:
    """Response of a model, or an error of its server."""

    status: int
    media_type: str
    body: bytes
    retry_after: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)  # those of `PICTURE_HEADERS`


class Backend(Protocol):
    """Runs models. Methods raise ProblemErrors with status 502, 503 or 504 if the backend fails."""

    async def infer(self, request: ModelRequest) -> ModelResponse:
        """Run a model; errors of the model server are responses too."""

    async def catalog(self) -> Catalog:
        """Return the models that are served."""

    async def card(self, name: str, version: str) -> str:
        """Return the model card of a version (Markdown); raises NotFoundError without one."""

    async def sample(self, name: str, version: str) -> bytes:
        """Return the sample image of a version; raises NotFoundError without one."""

    async def ready(self) -> str | None:
        """Return None if the backend is ready, else the reason."""

    async def close(self) -> None:
        """Release all resources."""
