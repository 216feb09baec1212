"""The recipe of an archive: what the model is, how its input is made, how its output is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handlers.errors import RecipeError

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Part):
    """How an image becomes the network's input.

    Attributes
    ----------
    color
        What the model was trained on: `gray` images are resized as one channel and repeated;
        a coloured picture is refused where gray is meant.
    channels, height, width
        Shape of the input tensor, (channels, height, width).
    fit
        How an image comes to that shape: `stretch` ignores its aspect, `pad` keeps it and puts black around.
    frame
        (height, width) that an image is brought to before its centre of `height` x `width` is cut out;
        without it nothing is cut off.
    mean, std
        Statistics of the training pixels in [0, 1], one per channel.
    raw
        True where the original client's {"data": base64 of channel-first bytes} is accepted.
    dicom
        DICOM keyword -> values that a DICOM object may have there (upper case); a keyword that the
        object leaves empty is not held against it.
    """

    color: Literal["gray", "rgb"]
    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    fit: Literal["stretch", "pad"] = "stretch"
    frame: tuple[int, int] | None = None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    raw: bool = False
    dicom: dict[Literal["Modality", "BodyPartExamined", "ViewPosition"], tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{key} has {len(values)} values, channels is {self.channels}")
        if self.frame is not None and (self.frame[0] < self.height or self.frame[1] < self.width):
            raise ValueError(
                f"frame has value {list(self.frame)}, smaller than the {self.height} x {self.width} cut out of it"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std has value {list(self.std)}, every value must be above 0")
        if self.color == "rgb" and self.channels != 3:
            raise ValueError(f"color is rgb, so channels must be 3, not {self.channels}")
        return self


class Decision(_Part):
    """From which probability of the positive label on the answer is positive.

    Attributes
    ----------
    positive
        One of the labels.
    threshold
        Of an image's probability, or of a pixel's where the task is segmentation.
    smallest
        Segmentation only: a mask with fewer pixels, counted in the network's geometry, is emptied.
    chosen
        How the threshold was found, in words.
    """

    positive: Text
    threshold: Annotated[float, Field(gt=0, lt=1)]
    smallest: Annotated[int, Field(ge=1)] = 1
    chosen: Text


class Calibration(_Part):
    """Temperature that divides the logits before the activation (Guo et al. 2017)."""

    temperature: Annotated[float, Field(gt=0, le=100)]
    fitted: Text


class Weights(_Part):
    """Where the weights are: a safetensors file beside the recipe.

    Attributes
    ----------
    sha256
        None where none were trained yet.
    source
        One line on how to get them, where the repository does not hold them.
    """

    file: Text
    sha256: Sha256 | None
    source: Text | None = None


class Explanation(_Part):
    """How a classifier's answer is explained (handlers.explanation).

    Attributes
    ----------
    method
        `grad-cam` on the network's output `features`, or `attention-relevance` on its output `attention`.
    side
        Of the square map whose pixels, row after row, the tokens of the attention share evenly.
    """

    method: Literal["grad-cam", "attention-relevance"] = "grad-cam"
    side: Annotated[int, Field(ge=1, le=4096)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.side is not None) != (self.method == "attention-relevance"):
            raise ValueError(f"side has value {self.side}: attention-relevance needs it, grad-cam has none")
        return self


class Recipe(_Part):
    """One `archive.yaml`, validated.

    Attributes
    ----------
    network
        Name of the network in `training.networks`; needed to build, not to serve.
    labels
        In the order of the network's outputs.
    activation
        `softmax` over one logit a label, or `sigmoid` of one logit for the second of two labels;
        segmentation has a sigmoid at every pixel, and a decision.
    explanation
        A classifier without it is explained by Grad-CAM; a segmentation has none, its mask is one.
    sample
        Image file beside the recipe; stored in the archive, answered when it is built and
        again before a server calls itself ready.
    warning
        Stands in every answer, for whoever must not take the answer for one of a finished model.
    """

    name: Name
    version: Version
    task: Literal["classification", "segmentation"]
    title: Text
    network: Text
    labels: Annotated[tuple[Text, ...], Field(min_length=2)]
    input: Input
    activation: Literal["softmax", "sigmoid"]
    decision: Decision | None = None
    calibration: Calibration
    explanation: Explanation | None = None
    weights: Weights
    sample: Text
    trained_on: Text
    licence: Text
    warning: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)} repeat")
        if self.activation == "sigmoid" and len(self.labels) != 2:
            raise ValueError(f"activation sigmoid needs 2 labels, not {len(self.labels)}")
        if self.task == "segmentation" and (self.activation != "sigmoid" or self.decision is None):
            raise ValueError("task segmentation needs activation sigmoid and a decision")
        if self.task == "segmentation" and self.explanation is not None:
            raise ValueError("task segmentation has no explanation: its mask is one")
        if self.decision is not None:
            if len(self.labels) != 2:
                raise ValueError(f"decision needs 2 labels, not {len(self.labels)}")
            if self.decision.positive not in self.labels:
                raise ValueError(
                    f"decision.positive has value {self.decision.positive!r}, "
                    f"which is none of labels {list(self.labels)}"
                )
        return self

    @property
    def outputs(self) -> int:
        """Number of logits of the network."""
        return 1 if self.activation == "sigmoid" else len(self.labels)


def load(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises
    ------
    RecipeError
        Naming file, key and value of everything that is wrong.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such recipe") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    return parse(data, source=str(path))


def parse(data: Any, source: str) -> Recipe:
    """Validate a recipe that was read from `source`; see `load`."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors(include_url=False))
        raise RecipeError(f"{source}: {problems}") from error


def _problem(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "recipe"
    value = item["input"]
    if item["type"] == "missing":
        return f"key '{key}' is missing"
    if item["type"] == "extra_forbidden":
        return f"key '{key}' is not known (its value is {_short(value)})"
    return f"key '{key}' has value {_short(value)}: {item['msg']}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 and not isinstance(value, dict) else text[:77] + "..."
