"""What `metrics.json` holds, checked before anyone writes or believes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handlers.recipe import Name, Sha256, Text, Version
from training.errors import RunError

Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Model(_Part):
    """Which weights were measured."""

    name: Name
    version: Version
    weights_sha256: Sha256


class Side(_Part):
    """One side of the split."""

    images: Count
    groups: Count
    labels: dict[str, Count]


class Sides(_Part):
    """The split; its sha256 is that of `training.datasets.split.Split`. Without training side, all is validation."""

    sha256: Sha256
    train: Side | None
    validation: Side


class Figure(_Part):
    """A figure and its 95 % interval; null where it is not defined."""

    value: float | None
    ci95: tuple[float, float] | None


class Report(_Part):
    """One `metrics.json`.

    Attributes
    ----------
    data
        Name of the data set, as in `training.yaml`.
    demonstration
        Whether this was a short run that shows the way, and no usable model came of it.
    epoch
        Whose weights these are; None where they were imported.
    part
        What was measured on: the side that training put aside, or all of a data set that it never saw.
    threshold
        None where the answer is the most probable of many labels.
    validation
        Figure by name, as `training.metrics.binary`, `.multiclass` and `.overlap` call them.
    confusion
        Kind of answer -> count, or right label -> label that was told -> count.
    stress
        Change to the images -> figure by name.
    """

    model: Model
    task: Literal["classification", "segmentation"]
    data: Text
    demonstration: bool = False
    command: Text
    seed: Count
    epoch: Count | None
    temperature: float
    threshold: float | None = None
    part: Literal["validation", "all"] = "validation"
    split: Sides
    interval: Text
    validation: Annotated[dict[str, Figure], Field(min_length=1)]
    confusion: dict[str, Count] | dict[str, dict[str, Count]] | None = None
    stress: dict[str, dict[str, float | None]] | None = None


def parse(data: Mapping[str, Any], source: str = "metrics.json") -> Report:
    """Check a report that was read from `source`.

    Raises
    ------
    RunError
        Naming key and value of everything that is wrong.
    """
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors(include_url=False))
        raise RunError(f"{source}: {problems}. Evaluate the model anew.") from error


def _problem(item: Any) -> str:
    key = ".".join(map(str, item["loc"]))
    if item["type"] == "missing":
        return f"key '{key}' is missing"
    return f"key '{key}' has value {str(item['input'])[:60]!r}: {item['msg']}"
