"""Base class and constrained types that every schema module shares."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StrictStr

ModelName = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64, examples=["chest-xray-cnn"])]
"""Name of a model, as in its recipe (`handlers.recipe.Name`)."""

Version = Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$", examples=["1.0.0"])]
"""Version of a model, as in its recipe (`handlers.recipe.Version`)."""

Text = Annotated[StrictStr, Field(min_length=1)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
FrameNumber = Annotated[int, Field(strict=True, ge=1)]
PixelLength = Annotated[int, Field(strict=True, ge=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Millimetres = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]

ROUNDING: Final = 1e-6  # tolerance between two values of one document that are equal before JSON rounds them


class Document(BaseModel):
    """Base of every document: immutable, and tolerant of keys that a newer release adds."""

    model_config = ConfigDict(extra="ignore", frozen=True)
