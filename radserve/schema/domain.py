"""Domain documents: whether an image is like the training images of its model, and its repair on request."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from radserve.schema.types import Amount, Document, Text

Mode = Literal["strict", "warn", "off"]
"""What the operator chose for images unlike the training images: rejection, a warning, or no comparison."""

Status = Literal["normal", "unusual", "unlike"]

Repair = Literal["rotate-90", "rotate-180", "rotate-270", "invert"]
"""Clockwise rotation of an image, or inversion of its intensities, before it is analysed."""

Percentile = Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)]


class Domain(Document):
    """Comparison of an image with the training images.

    `percentile` of the held-out images have a lower `score`; from `limit` on, an image is unlike the training images.
    `near` is true for an unlike image that is about as near to the limit as the good images that are rejected.
    `reason` says what an unusual image is, if the server can tell: `other_image`, `dark`, `rotated_90`, `rotated_180`,
    `rotated_270` (the clockwise rotation that it has) or `inverted`. `contradicts` names the attribute, `orientation`
    or `polarity`, that the file states otherwise, if it does. `site` names the site whose profile has the limit of
    unusual images, if the archive's does not apply.
    With mode `off`, everything but the mode is None.
    """

    mode: Mode
    status: Status | None = None
    score: Amount | None = None
    limit: Amount | None = None
    near: bool | None = None
    percentile: Percentile | None = None
    reason: Text | None = None
    contradicts: Text | None = None
    site: Text | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether a finding must not be stated: the image is not like the training images."""
        return self.status in ("unusual", "unlike")

    @model_validator(mode="after")
    def _check_limit(self) -> Self:
        if self.near and self.status != "unlike":
            raise ValueError(f"domain.near is true, but domain.status is {self.status!r}")
        if self.score is None or self.limit is None or self.score == self.limit:  # equal, maybe only after rounding
            return self
        if (self.status == "unlike") != (self.score > self.limit):
            raise ValueError(f"domain.status is {self.status!r}, but score is {self.score:g}, limit {self.limit:g}")
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        values = {"status": self.status, "score": self.score, "percentile": self.percentile}
        if self.mode == "off":
            present = [
                name
                for name, value in (values | {"reason": self.reason, "limit": self.limit, "near": self.near}).items()
                if value is not None
            ]
            if present:
                raise ValueError(f"domain.mode is 'off', but {present[0]} is present")
        else:
            missing = [name for name, value in values.items() if value is None]
            if missing:
                raise ValueError(f"domain.mode is {self.mode!r}, but {missing[0]} is missing")
        return self
