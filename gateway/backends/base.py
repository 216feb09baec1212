"""What answers the gateway's questions about images: a server elsewhere, or a model in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

Verb = Literal["predictions", "explanations"]


@dataclass(frozen=True)
class Question:
    """One request, as TorchServe is asked.

    Attributes
    ----------
    version
        None leaves it to the server, which may split the requests.
    media_type, encoding, accept
        The header fields Content-Type, Content-Encoding and Accept; empty where they are not sent.
    request_id
        Travels on, so that the logs of both can be joined.
    client
        Whoever has the same one stays on the same side of a split.
    """

    verb: Verb
    model: str
    version: str | None
    body: bytes
    media_type: str = ""
    encoding: str = ""
    accept: str = "application/json"
    request_id: str = ""
    client: str = ""


@dataclass(frozen=True)
class Reply:
    """What the server answered, also where it refuses.

    Attributes
    ----------
    retry_after
        Header field of that name; empty where there is none.
    """

    status: int
    media_type: str
    body: bytes
    retry_after: str = ""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Input(_Part):
    """What a model's network sees of an image: `color` is gray or rgb, sizes are in pixels."""

    color: Literal["gray", "rgb"]
    height: int
    width: int


class Version(_Part):
    """One version of a model, as its archive describes it.

    Attributes
    ----------
    share
        Percent of the requests that name no version which it gets.
    positive, threshold
        The label that an answer is positive of, and from which probability on; None where there is no decision.
    explains
        Whether /explanations answers.
    figures
        Scores on the validation side, from the archive's metrics; empty where none were measured.
    warning
        Stands in every answer, for whoever must not take the model for a finished one.
    """

    version: str
    sha256: str
    share: Annotated[float, Field(ge=0, le=100)]
    task: Literal["classification", "segmentation"]
    title: str
    labels: tuple[str, ...]
    positive: str | None = None
    threshold: float | None = None
    explains: bool
    input: Input
    trained_on: str
    licence: str
    warning: str | None = None
    figures: dict[str, Any] = {}


class Model(_Part):
    """A model and its versions, the one with most of the requests first."""

    name: str
    versions: tuple[Version, ...]


class Catalog(_Part):
    """What is served."""

    models: tuple[Model, ...]

    def find(self, name: str, version: str | None = None) -> Version | None:
        """Return a version, by default the main one; None if it is not served."""
        for model in self.models:
            if model.name == name:
                return next((item for item in model.versions if version in (None, item.version)), None)
        return None


class Backend(Protocol):
    """Answers questions; each method raises a `gateway.errors.Problem` (502, 503, 504) where it cannot."""

    async def ask(self, question: Question) -> Reply:
        """Answer one request."""

    async def catalog(self) -> Catalog:
        """Return what is served."""

    async def card(self, name: str, version: str) -> str:
        """Return the model card of a version (Markdown); NotFound if it has none."""

    async def sample(self, name: str, version: str) -> bytes:
        """Return the sample image of a version; NotFound if it has none."""

    async def ready(self) -> str | None:
        """Return None if requests would be answered, else why not."""

    async def close(self) -> None:
        """Let go of what it holds."""
