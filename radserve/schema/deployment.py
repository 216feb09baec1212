"""Deployment documents: the versions that a server serves or should serve, and the changes between two of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, field_validator, model_validator

from radserve.schema.types import Document, ModelName, Version

Action = Literal["register", "scale", "share", "unregister"]


def _tenths(share: float) -> float:
    """Reject a share that the proxy could not split: it divides traffic into a thousand parts."""
    rounded = round(share, 1)
    if abs(rounded - share) > 1e-9:
        raise ValueError("shares go in steps of 0.1")
    return rounded


def _shortest(share: float) -> float:
    return int(share) if share.is_integer() else share


TrafficShare = Annotated[
    float,
    Field(ge=0, le=100, strict=True, allow_inf_nan=False),
    AfterValidator(_tenths),
    PlainSerializer(_shortest, return_type=Any),
]
"""Percent of a model's requests; serialised without a fraction if it is a whole number."""


class _Declaration(BaseModel):
    """Base of what a user writes: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeployedVersion(_Declaration):
    """One version in a deployment; the server chooses `workers` if it is None."""

    share: TrafficShare
    workers: Annotated[int, Field(ge=1, strict=True)] | None = None


class DeployedModel(_Declaration):
    """Versions of one model; their shares sum to 100."""

    versions: Annotated[dict[Version, DeployedVersion], Field(min_length=1)]

    @field_validator("versions", mode="before")
    @classmethod
    def _default_share(cls, versions: Any) -> Any:
        """Give a single version all requests, and accept a version without settings."""
        if not isinstance(versions, dict):
            return versions
        settings = {version: {} if value is None else value for version, value in versions.items()}
        if len(settings) == 1:
            return {
                key: {"share": 100} | value if isinstance(value, dict) else value for key, value in settings.items()
            }
        return settings

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        total = round(sum(item.share for item in self.versions.values()), 1)
        if total != 100:
            shares = ", ".join(f"{key} {percent(item.share)}" for key, item in self.versions.items())
            raise ValueError(f"the shares of the versions ({shares}) add up to {percent(total)}, not to 100%")
        return self


class Deployment(_Declaration):
    """Models and versions that a server serves or should serve; the content of deployment.yaml."""

    models: dict[ModelName, DeployedModel]

    def find(self, name: str, version: str) -> DeployedVersion | None:
        """Return one version, or None if it is not part of the deployment."""
        model = self.models.get(name)
        return model.versions.get(version) if model else None


class Change(Document):
    """One step from one deployment to another; `detail` describes it in a sentence."""

    action: Action
    model: str
    version: str
    detail: str


class DeploymentDiff(Document):
    """Changes that would be made, or were made."""

    changes: tuple[Change, ...]


def percent(share: float) -> str:
    """Format a share of requests."""
    return f"{_shortest(round(share, 1))}%"
