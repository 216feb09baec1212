"""Schema of `metrics.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.distribution import Reference
from handlers.recipe import Name, Sha256, Text, Version
from handlers.validation_error import describe
from training.errors import RunError

Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Model(_Part):
    """Model and weights that were measured."""

    name: Name
    version: Version
    weights_sha256: Sha256


class Side(_Part):
    """One side of the split."""

    images: Count
    groups: Count
    labels: dict[str, Count]


class Sides(_Part):
    """The split, see `training.datasets.split.Split`; without a training side, all images are in `validation`."""

    sha256: Sha256
    train: Side | None
    validation: Side


class Metric(_Part):
    """A metric and its 95% confidence interval; null where it is not defined."""

    value: float | None
    ci95: tuple[float, float] | None


class Refusal(_Part):
    """What a detector did with images of one kind."""

    images: Annotated[int, Field(ge=1)]
    refused: Count
    refused_ci95: tuple[float, float]  # Wilson score interval of the share
    marked: Count  # as unusual, or refused
    softmax: Count  # refused by the largest probability alone, at the same share of held-out images


class Refusals(_Part):
    """What a detector did with images that its model must not analyse, and with held-out images."""

    detector_sha256: Sha256
    command: Text
    milliseconds: float  # median processor time of an assessment
    kinds: Annotated[dict[str, Refusal], Field(min_length=1)]


class Subgroup(_Part):
    """Images with one value of an attribute; without metrics if they are too few."""

    images: Count
    metrics: dict[str, Metric] | None


class External(_Part):
    """Figures on images of another source, which were used neither for training nor for validation."""

    name: Text
    command: Text
    sha256: Sha256  # of the list of images
    predictor: Sha256 | None = None  # of input, calibration and decision; None where it was not recorded
    images: Side
    interval: Text
    metrics: Annotated[dict[str, Metric], Field(min_length=1)]
    confusion: dict[str, Count] | dict[str, dict[str, Count]] | None = None
    subgroups: dict[str, dict[str, Subgroup]] = {}  # attribute -> value -> figures


class Report(_Part):
    """Content of a `metrics.json`."""

    model: Model
    task: Literal["classification", "segmentation"]
    data: Text  # name of the data set, as in `training.yaml`
    demonstration: bool = False  # a short run that did not produce a usable model
    command: Text
    training: tuple[Text, ...] = ()  # commands that trained the weights, the first one first; empty if unknown
    seed: Count
    epoch: Count | None  # of the weights, from 1; None for imported weights
    temperature: float
    threshold: float | None = None  # None if the prediction is the most probable of many labels
    part: Literal["validation", "all"] = "validation"  # the validation side of the training, or all of another data set
    split: Sides
    interval: Text
    validation: Annotated[dict[str, Metric], Field(min_length=1)]  # see training.metrics
    # kind of prediction -> count, or true label -> predicted label -> count
    confusion: dict[str, Count] | dict[str, dict[str, Count]] | None = None
    # of the prediction sets, cross-fitted on the validation side; see training.uncertainty
    certainty: dict[str, Metric] | None = None
    stress: dict[str, dict[str, float | None]] | None = None  # image change -> metrics
    shortcuts: dict[str, Metric] | None = None  # see training.evaluators.shortcuts
    refusals: Refusals | None = None  # None without a detector, or if it was not measured
    external: tuple[External, ...] = ()
    reference: Reference | None = None  # of the validation images, for monitoring; see training.reference


def load(path: Path) -> Report:
    """Read and validate a `metrics.json`."""
    return parse(json.loads(path.read_text(encoding="utf-8")), str(path))


def parse(data: Mapping[str, Any], source: str = "metrics.json") -> Report:
    """Validate a report that was read from `source`; `RunError` lists every invalid key with its value."""
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        raise RunError(f"{source}: {describe(error)}. Evaluate the model again.") from error
