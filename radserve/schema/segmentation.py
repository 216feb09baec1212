"""Segmentation documents: a mask for one image, and the volume of a series of slices."""

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final, Literal, NamedTuple, Self

from pydantic import PrivateAttr, model_validator

from radserve.schema import columns, html
from radserve.schema.png import GrayPng, Scanlines, unfilter
from radserve.schema.prediction import ImageResult
from radserve.schema.problem import RejectedImage
from radserve.schema.types import ROUNDING, Amount, Count, Document, Fraction, PixelLength, Text

if TYPE_CHECKING:
    import pandas as pd

_MARKED = b"\xff"
_THUMBNAILS: Final = 12  # slices that a notebook shows


class Area(Document):
    """Marked area of an image; `mm2` is None if the pixel spacing is unknown."""

    pixels: Count
    fraction: Fraction
    mm2: Amount | None = None


class Box(Document):
    """Smallest rectangle around all marked pixels, in pixels of the image."""

    left: Count
    top: Count
    width: PixelLength
    height: PixelLength


class _Marks(NamedTuple):
    """Number of marked pixels and the box around them."""

    pixels: int
    box: Box | None


class Mask(GrayPng):
    """Mask with the size of its image: 255 where a pixel is marked, 0 elsewhere."""

    _marks: _Marks = PrivateAttr()

    def _check_content(self, scanlines: Scanlines) -> None:
        count, columns = 0, [0, 0]
        rows: list[int] = []
        for number, row in enumerate(unfilter(scanlines)):
            marked = row.count(_MARKED)
            if marked + row.count(b"\0") != len(row):
                raise ValueError("the mask has values other than 0 and 255")
            if marked:
                edges = row.index(_MARKED), row.rindex(_MARKED)
                columns = [min(columns[0], edges[0]), max(columns[1], edges[1])] if rows else list(edges)
                rows.append(number)
                count += marked
        box = None
        if rows:
            left, right = columns
            box = Box(left=left, top=rows[0], width=right - left + 1, height=rows[-1] - rows[0] + 1)
        self._marks = _Marks(count, box)

    @property
    def marks(self) -> _Marks:
        """Number of marked pixels and the box around them, from the PNG."""
        return self._marks


class Segmentation(ImageResult):
    """Result of a segmentation model for one image; `box` is None if nothing is marked.

    `finding` is the label of marked pixels, also of an empty mask; None from a server of an earlier release.
    """

    task: ClassVar[Literal["segmentation"]] = "segmentation"

    finding: Text | None = None
    area: Area
    box: Box | None
    mask: Mask

    @property
    def _finding(self) -> str:
        if not self.area.pixels:
            return "Nothing marked"
        size = "" if self.area.mm2 is None else f", {self.area.mm2:.0f} mm²"
        return f"{self.label}: {self.area.fraction:.2%} of the image marked{size}"

    @property
    def _overlay(self) -> GrayPng:
        return self.mask

    def _colored(self) -> bytes:
        return html.mask_overlay(self.mask.width, self.mask.height, self.mask.gray)

    @model_validator(mode="after")
    def _check_mask(self) -> Self:
        count, box = self.mask.marks
        total = self.mask.width * self.mask.height
        if self.area.pixels != count:
            raise ValueError(f"area.pixels is {self.area.pixels}, but the mask marks {count}")
        if not math.isclose(self.area.fraction, count / total, rel_tol=1e-4, abs_tol=ROUNDING):
            raise ValueError(f"area.fraction is {self.area.fraction}, but the mask marks {count} of {total}")
        if self.positive is not (count > 0):
            raise ValueError(f"positive is {self.positive}, but the mask marks {count} pixels")
        if self.positive and self.finding not in (None, self.label):
            raise ValueError(f"label is {self.label!r}, but the mask marks {self.finding!r}")
        if self.box != box:
            raise ValueError(f"box is {self.box}, but the box around the marked pixels is {box}")
        self._check_mm2(count)
        return self

    def _check_mm2(self, count: int) -> None:
        spacing, mm2 = self.image.spacing, self.area.mm2
        if (spacing is None) != (mm2 is None):
            raise ValueError(f"area.mm2 is {mm2} while image.spacing is {spacing}")
        if spacing is not None and mm2 is not None:
            size = count * spacing[0] * spacing[1]
            if not math.isclose(mm2, size, rel_tol=1e-4, abs_tol=ROUNDING):
                raise ValueError(f"area.mm2 is {mm2}, but {count} pixels of {spacing} mm are {size:g}")


class Volume(Document):
    """Volume that the slices of one examination mark together.

    `slices` were sent, and `positive_slices` of them have marked pixels. `unusual` and `unlike` ones among the slices
    with a mask differ from the training images, None if they were not compared. `ml` (millilitres) is None if the
    distances are unknown or a slice was rejected; `reason` says why.
    """

    slices: Count
    positive_slices: Count
    pixels: Count
    unusual: Count | None = None
    unlike: Count | None = None
    ml: Amount | None = None
    reason: Text | None = None


class Series(Document):
    """Results for the slices of one examination, in the order in which they were sent, and their volume."""

    predictions: tuple[Segmentation | RejectedImage, ...]
    volume: Volume

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one row per slice; raises InvalidCallError without pandas."""
        return columns.frame(item.row() for item in self.predictions)

    def _repr_html_(self) -> str:
        volume = self.volume
        measured = f"{volume.ml:.2f} ml" if volume.ml is not None else f"no volume: {volume.reason}"
        text = f"{measured}; {volume.positive_slices} of {volume.slices} slices marked"
        masks = [item for item in self.predictions if isinstance(item, Segmentation)]
        marked = [item for item in masks if item.positive]
        doubts = Counter(doubt for item in masks for doubt in item.doubts)
        reasons = tuple(f"{doubt} ({count} of {volume.slices} slices)" for doubt, count in doubts.items())
        models = dict.fromkeys(f"{item.model.name} {item.model.version}" for item in masks)
        strip = "".join(f'<div style="width:8em">{item.thumbnail()}</div>' for item in marked[:_THUMBNAILS])
        shown = f"The first {_THUMBNAILS} marked slices" if len(marked) > _THUMBNAILS else ""
        parts = [f'<div style="display:flex;flex-wrap:wrap;gap:.5em">{strip}</div>']
        notes = Counter(note for item in masks for note in item.notes)
        sentences = [f"{note} ({count} of {volume.slices} slices)" for note, count in notes.items()]
        return html.card(html.Heading(text, reasons), parts, [shown, *sentences, *models])

    @model_validator(mode="after")
    def _check_volume(self) -> Self:
        volume = self.volume
        masks = [item for item in self.predictions if isinstance(item, Segmentation)]
        if volume.slices != len(self.predictions):
            raise ValueError(f"volume.slices is {volume.slices}, but {len(self.predictions)} slices were sent")
        positive, pixels = sum(item.positive is True for item in masks), sum(item.area.pixels for item in masks)
        if (volume.positive_slices, volume.pixels) != (positive, pixels):
            raise ValueError(
                f"volume declares {volume.pixels} pixels on {volume.positive_slices} slices, "
                f"but the masks mark {pixels} on {positive}"
            )
        for status, declared in (("unusual", volume.unusual), ("unlike", volume.unlike)):
            counted = sum(item.domain is not None and item.domain.status == status for item in masks)
            if declared is not None and declared != counted:
                raise ValueError(f"volume.{status} is {declared}, but {counted} slices are {status}")
        if volume.ml is not None and len(masks) != len(self.predictions):
            raise ValueError(f"volume.ml is {volume.ml}, but {len(self.predictions) - len(masks)} slices have no mask")
        if (volume.ml is None) == (volume.reason is None):
            raise ValueError(f"volume.ml is {volume.ml} while volume.reason is {volume.reason!r}")
        return self
