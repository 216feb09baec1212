"""The answer of a segmentation model, as a value: a mask that is where and as large as it says."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from radserve.schema.png import Picture
from radserve.schema.prediction import Answer, Count, Pixels, RejectedImage, Share, Text

_ROUNDING: Final = 1e-6
_Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Area:
    """How much is marked.

    Attributes
    ----------
    fraction
        Of the image's pixels.
    mm2
        In square millimetres; None where the image's spacing is not known.
    """

    pixels: Count
    fraction: Share
    mm2: _Amount | None = None


@dataclass(frozen=True)
class Box:
    """The smallest rectangle around everything that is marked, in pixels of the image."""

    left: Count
    top: Count
    width: Pixels
    height: Pixels


@dataclass(frozen=True, kw_only=True)
class Segmentation(Answer):
    """What a segmentation model says of one image; see `Answer` for the rest.

    Attributes
    ----------
    box
        None where nothing is marked.
    mask
        255 where it is marked, 0 elsewhere; it lies on the image pixel for pixel.
    """

    task: ClassVar[Literal["segmentation"]] = "segmentation"

    area: Area
    box: Box | None
    mask: Picture

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that no part of the answer contradicts the mask."""
        self.mask.covers(self.image)
        pixels = self.mask.pixels
        marked = pixels == 255
        if not (marked | (pixels == 0)).all():
            raise ValueError("the mask has values beside 0 and 255")
        count = int(np.count_nonzero(marked))
        if self.area.pixels != count:
            raise ValueError(f"area.pixels is {self.area.pixels}, but the mask marks {count}")
        if not math.isclose(self.area.fraction, count / marked.size, rel_tol=1e-4, abs_tol=_ROUNDING):
            raise ValueError(f"area.fraction is {self.area.fraction}, but the mask marks {count} of {marked.size}")
        if self.positive is not (count > 0):
            raise ValueError(f"positive is {self.positive}, but the mask marks {count} pixels")
        if self.box != _box(marked):
            raise ValueError(f"box is {self.box}, but what the mask marks has {_box(marked)}")
        self._has_size(count)
        return self

    def _has_size(self, count: int) -> None:
        spacing, said = self.image.spacing, self.area.mm2
        if (spacing is None) != (said is None):
            raise ValueError(f"area.mm2 is {said} while image.spacing is {spacing}")
        if spacing is not None and said is not None:
            size = count * spacing[0] * spacing[1]
            if not math.isclose(said, size, rel_tol=1e-4, abs_tol=_ROUNDING):
                raise ValueError(f"area.mm2 is {said}, but {count} pixels of {spacing} mm are {size:g}")


def _box(marked: NDArray[np.bool_]) -> Box | None:
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not rows.size:
        return None
    left, top = int(columns[0]), int(rows[0])
    return Box(left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1)


@dataclass(frozen=True)
class Volume:
    """What the slices of one examination make together.

    Attributes
    ----------
    slices, positive_slices
        Number of slices that were sent, and of those on which something is marked.
    pixels
        Marked on all of them.
    ml
        In millilitres; None where the slices do not tell, or one was refused.
    reason
        Why there is no `ml`.
    """

    slices: Count
    positive_slices: Count
    pixels: Count
    ml: _Amount | None = None
    reason: Text | None = None


@dataclass(frozen=True)
class Series:
    """The answers to the slices of one examination, in the order in which they were sent."""

    answers: tuple[Segmentation | RejectedImage, ...]
    volume: Volume

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Check that the volume is that of these slices."""
        good = [item for item in self.answers if isinstance(item, Segmentation)]
        said = self.volume
        if said.slices != len(self.answers):
            raise ValueError(f"volume.slices is {said.slices}, but {len(self.answers)} slices were sent")
        positive, pixels = sum(item.positive is True for item in good), sum(item.area.pixels for item in good)
        if (said.positive_slices, said.pixels) != (positive, pixels):
            raise ValueError(
                f"volume says {said.pixels} pixels on {said.positive_slices} slices, "
                f"the masks have {pixels} on {positive}"
            )
        if said.ml is not None and len(good) != len(self.answers):
            raise ValueError(f"volume.ml is {said.ml}, but {len(self.answers) - len(good)} slices have no mask")
        if (said.ml is None) == (said.reason is None):
            raise ValueError(f"volume.ml is {said.ml} while volume.reason is {said.reason!r}")
        return self
