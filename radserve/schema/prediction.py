"""Prediction documents: what a server reports about one image, and the classification result."""

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import ModelWrapValidatorHandler, PrivateAttr, StrictBool, model_validator

from radserve.schema import columns, html, plot
from radserve.schema.domain import Domain, Repair
from radserve.schema.history import HistoryState
from radserve.schema.origin import WithOrigin
from radserve.schema.percentage import comparison, percentage
from radserve.schema.png import GrayPng
from radserve.schema.types import (
    ROUNDING,
    Amount,
    Document,
    Fraction,
    FrameNumber,
    Millimetres,
    PixelLength,
    Sha256,
    Text,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_ORIGIN: Final = frozenset({"name", "id", "time", "filename", "history"})

_DOMAIN: Final = {
    "unusual": "Unusual image: do not rely on the label.",
    "unlike": "Unlike the training images: do not rely on the label.",
}
_NO_RESULT: Final = {"unusual": "no result: unusual image", "unlike": "no result: unlike the training images"}
_UNCERTAIN: Final = "uncertain: no reliable label"
_CONTRADICTED: Final = "uncertain: contradicted by a brightened copy"
_BARS: Final = 5  # labels that a notebook shows

PROBABILITY_SUM_TOLERANCE: Final = 0.01  # how far the probabilities may sum from 1: they may be rounded to two digits


class ModelReference(Document):
    """Names the model of a prediction; `sha256` is the archive's, None without an index of the model store."""

    name: Text
    version: Text
    sha256: Sha256 | None


class Image(Document):
    """Describes the image that the server decoded.

    `width` and `height` are in pixels, upright; `sha256` is the digest of the bytes that were sent; `spacing` is the
    (row, column) distance of pixel centres in mm, if the file declares it. `frame` is the number of a frame of a
    multi-frame DICOM object, from 1. Of a repaired image, everything but `sha256`
    describes the image after the repair.
    """

    format: Text
    width: PixelLength
    height: PixelLength
    sha256: Sha256
    spacing: tuple[Millimetres, Millimetres] | None = None
    frame: FrameNumber | None = None


class ProfileReference(Document):
    """Names the site profile whose calibration, threshold and prediction sets a result has; see docs/certainty.md."""

    name: Text
    sha256: Sha256


class Certainty(Document):
    """Conformal prediction set of a classifier with two labels, at a level.

    The result is `certain` if the set contains its label alone. Do not rely on the label of an uncertain result: it is
    what the model computed, but the model's validation images do not support it alone.

    `second_label` is the label of the second pass, a brightened copy of a dark image without its dark margins; None
    without one. If it is another one, the result is uncertain.
    """

    status: Literal["certain", "uncertain"]
    prediction_set: tuple[Text, ...]
    level: Fraction
    second_label: Text | None = None


class ImageResult(WithOrigin):
    """Result for one image; base of `Prediction` and `Segmentation`.

    `positive` and `threshold` (the cut-off) are None if the model decides nothing. `warning` says why the result must
    not be relied on. `name` is the file name within a zip. A gateway sets `id`, `time` and `history` (whether it stored
    the result), and `filename` if the client sent it.

    Of the model's scope, the server read the attributes `checked` from the file, and found them valid. `unchecked` ones
    are unknown. `assurances` are what the client stated; they are valid too. `notes` are sentences about the image that
    a reader must know; they do not make the result doubtful. `domain` compares the image with the
    training images, None if the archive has no detector. `repair` is what the client had the server change before.

    Two results are equal if the server reports the same about the image; where it came from and `raw` do not count.
    """

    model: ModelReference
    profile: ProfileReference | None = None
    label: Text
    positive: StrictBool | None
    threshold: Fraction | None
    image: Image
    warning: Text | None = None
    checked: tuple[Text, ...] = ()
    unchecked: tuple[Text, ...] = ()
    assurances: Mapping[Text, Text | Amount] | None = None
    notes: tuple[Text, ...] = ()
    domain: Domain | None = None
    repair: Repair | None = None
    name: Text | None = None
    id: Text | None = None
    time: datetime | None = None
    filename: Text | None = None
    history: HistoryState | None = None

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def raw(self) -> Mapping[str, Any]:
        """Document as the server sent it, with keys that this release does not know."""
        return self._raw

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons not to rely on the label; empty if there are none."""
        reasons = [self.warning] if self.warning else []
        if self.domain is not None and self.domain.is_doubtful:
            reasons.append(_DOMAIN[str(self.domain.status)])
        return tuple(reasons)

    @property
    def verdict(self) -> str:
        """What tables print: the label, or why the label is not a result. A `warning` does not change it."""
        return self.label if self.domain is None else _NO_RESULT.get(str(self.domain.status), self.label)

    @property
    def has_result(self) -> bool:
        """Whether the label, certain or not, is a result: the image is not unlike the training images, nor unusual."""
        return self.domain is None or not self.domain.is_doubtful

    @property
    def output(self) -> str:
        """What the model computed, in words, also if it is not a result."""
        return self._finding

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one row; `Results` has one for many. Raises InvalidCallError without pandas."""
        return columns.frame([self.row()])

    def row(self) -> dict[str, Any]:
        """Return the values of the table's columns."""
        return columns.of_result(str(self.path) if self.path else None, self)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the image, if it is known, with the mask or heat map; raises InvalidCallError without matplotlib."""
        overlay, size = self._overlay, (self.image.width, self.image.height)
        pixels = None if overlay is None else overlay.pixels
        title = "\n".join([*self.doubts, f"Model output: {self.output}" if self.doubts else self.output])
        return plot.draw(ax or plot.new_axes(), self._picture(), self.repair, pixels, size, title)

    def _repr_html_(self) -> str:
        heading = html.Heading(self._finding, self.doubts)
        model = f"{self.model.name} {self.model.version}"
        return html.card(heading, [*self._bars(), self.thumbnail()], [*self.notes, model])

    def thumbnail(self) -> str:
        """Return the image with its overlay as HTML; empty if there is neither."""
        turned = self.repair is not None and self.repair != "invert"  # the browser would not turn the image
        return html.picture(None if turned else self._picture(), self._colored(), inverted=self.repair == "invert")

    @property
    def _overlay(self) -> GrayPng | None:
        """Mask or heat map."""
        return None

    def _colored(self) -> bytes | None:
        """Return the overlay as a transparent PNG."""
        return None

    def _bars(self) -> list[str]:
        return []

    @property
    @abstractmethod
    def _finding(self) -> str:
        """Result in words."""

    def _picture(self) -> bytes | None:
        """Return the image, unless it is unknown or its file has changed."""
        content = self._origin
        if isinstance(content, Path):
            try:
                content = content.read_bytes()
            except OSError:
                return None
        known = content is not None and hashlib.sha256(content).hexdigest() == self.image.sha256
        return content if known else None

    def _content(self) -> dict[str, Any]:
        return {key: value for key, value in self if key not in _ORIGIN}

    @model_validator(mode="wrap")
    @classmethod
    def _keep_raw(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict):
            return handler(data)
        if "status" in data:
            raise ValueError("the document is problem details")
        if "mask" in data and "probabilities" in data:
            raise ValueError("the document has both a mask and probabilities")
        _check_sizes(data)
        result = handler(data)
        result._raw = data  # noqa: SLF001 - its own class
        return result

    @model_validator(mode="after")
    def _check_decision(self) -> Self:
        if (self.positive is None) != (self.threshold is None):
            raise ValueError(f"positive is {self.positive} while threshold is {self.threshold}")
        return self


def _check_sizes(document: dict[str, Any]) -> None:
    """Raise ValueError if a PNG declares another size than the image: before its field is validated, and inflated."""
    match document:
        case {"image": {"width": width, "height": height}, **others}:
            for png in (others.get("mask"), others.get("explanation")):
                match png:
                    case {"width": w, "height": h} if (w, h) != (width, height):
                        raise ValueError(f"the PNG is {w} x {h}, but the image is {width} x {height}")


class Prediction(ImageResult):
    """Result of a classifier for one image.

    `probability` is that of `label`. `probabilities` are calibrated and sum to 1 within `PROBABILITY_SUM_TOLERANCE`;
    like `threshold`, they assume that the share `prevalence` of the images is positive. `certainty` is None if the
    model has no prediction sets.
    """

    task: ClassVar[Literal["classification"]] = "classification"

    probability: Fraction
    probabilities: Mapping[Text, Fraction]
    prevalence: Fraction | None = None
    certainty: Certainty | None = None

    @property
    def is_uncertain(self) -> bool:
        """Whether the label must not be relied on; see `Certainty`."""
        return self.certainty is not None and self.certainty.status == "uncertain"

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons not to rely on the label; empty if there are none."""
        reasons = ["Uncertain: do not rely on the label."] if self.is_uncertain else []
        if self.contradiction is not None:
            reasons.append(self.contradiction)
        return (*super().doubts, *reasons)

    @property
    def contradiction(self) -> str | None:
        """What the second pass says, if it contradicts the label, as a sentence."""
        second = None if self.certainty is None else self.certainty.second_label
        if second in (None, self.label):
            return None
        return f'A brightened copy without its dark margins was labelled "{second}".'

    @property
    def verdict(self) -> str:
        """What tables print: the label, or why the label is not a result. A `warning` does not change it."""
        if not self.is_uncertain or not self.has_result:
            return super().verdict
        return _UNCERTAIN if self.contradiction is None else _CONTRADICTED

    @property
    def positive_label(self) -> str | None:
        """Label that the cut-off is about; None if the model has none, or not two labels."""
        if self.positive is None or len(self.probabilities) != 2:
            return None
        return next(label for label in self.probabilities if (label == self.label) is self.positive)

    @property
    def positive_probability(self) -> float | None:
        """Calibrated probability of `positive_label`, which is compared with `threshold`."""
        return None if self.positive_label is None else self.probabilities[self.positive_label]

    @property
    def output(self) -> str:
        """What the model computed, in words, also if it is not a result: `normal: pneumonia 1.4%, cut-off 49.3%`."""
        if self.positive_label is None:
            return self._finding
        text = comparison(self.positive_label, self.probabilities[self.positive_label], self.threshold)
        return text if self.positive else f"{self.label}: {text}"

    @property
    def _finding(self) -> str:
        if self.positive is None:
            return f"{self.label}, {percentage(self.probability)}"
        if self.positive or self.positive_label is None:
            return f"{self.label}: {'at or above' if self.positive else 'below'} the cut-off"
        return f"{self.label}: {self.positive_label} below the cut-off"

    def _bars(self) -> list[str]:
        """Return one bar for two labels, that of the label with the cut-off; else one for each probable label."""
        if self.positive_label is not None:
            return [html.bar(self.positive_label, self.probabilities[self.positive_label], self.threshold)]
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return [html.bar(label, probability) for label, probability in ranked[:_BARS]]

    @model_validator(mode="after")
    def _check_certainty(self) -> Self:
        if self.certainty is not None:
            labels, status = self.certainty.prediction_set, self.certainty.status
            if not set(labels) <= set(self.probabilities) or len(set(labels)) < len(labels):
                raise ValueError(f"the prediction set {list(labels)} is not among {sorted(self.probabilities)}")
            if (labels == (self.label,)) != (status == "certain"):
                raise ValueError(f"certainty is {status}, but the prediction set of {self.label!r} is {list(labels)}")
            second = self.certainty.second_label
            if second is not None and (second not in self.probabilities or (second != self.label and len(labels) < 2)):
                raise ValueError(f"the second label is {second!r}, but the prediction set is {list(labels)}")
        return self

    @model_validator(mode="after")
    def _check_probabilities(self) -> Self:
        if self.label not in self.probabilities:
            raise ValueError(f"label {self.label!r} is not among the probabilities {sorted(self.probabilities)}")
        if not math.isclose(self.probability, self.probabilities[self.label], abs_tol=ROUNDING):
            raise ValueError(f"probability {self.probability} differs from the probability of label {self.label!r}")
        total = math.fsum(self.probabilities.values())
        if abs(total - 1) > PROBABILITY_SUM_TOLERANCE:
            raise ValueError(f"the probabilities sum to {total:.4f}, not 1")
        if self.positive is None or self.threshold is None:
            self._check_most_probable()
        else:
            self._check_threshold(self.threshold, positive=self.positive)
        return self

    def _check_most_probable(self) -> None:
        best = max(self.probabilities, key=self.probabilities.__getitem__)
        if self.probability < self.probabilities[best] - ROUNDING:
            raise ValueError(f"label is {self.label!r}, but {best!r} is more probable and no threshold applies")

    def _check_threshold(self, threshold: float, *, positive: bool) -> None:
        others = (probability for label, probability in self.probabilities.items() if label != self.label)
        if positive and self.probability < threshold - ROUNDING:
            raise ValueError(f"positive is true, but probability {self.probability} is below threshold {threshold}")
        if not positive and min(others, default=0.0) > threshold + ROUNDING:
            raise ValueError(f"positive is false, but no other label's probability is below threshold {threshold}")
