"""Defines the recipe of an archive (`archive.yaml`): the model, its input, its decision and its provenance."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handlers.errors import RecipeError
from handlers.scope.scope import Scope
from handlers.validation_error import describe

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Section):
    """Preprocessing: how an image becomes the network's input, (channels, height, width).

    `gray` images are resized as one channel and repeated; colour images are then rejected. `stretch` ignores the
    aspect ratio of an image, `pad` keeps it and adds black borders. From a `frame`, (height, width) of the resized
    image, the centre is cropped. `raw` accepts {"data": base64 of channel-first bytes}, as of the original client.
    """

    color: Literal["gray", "rgb"]
    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    fit: Literal["stretch", "pad"] = "stretch"
    frame: tuple[int, int] | None = None
    mean: tuple[float, ...]  # of the training pixels in [0, 1], one per channel
    std: tuple[float, ...]
    raw: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"{key} has value {list(values)}; channels is {self.channels}, so it needs as many")
        if self.frame is not None and (self.frame[0] < self.height or self.frame[1] < self.width):
            raise ValueError(
                f"frame has value {list(self.frame)}, smaller than the {self.height} x {self.width} cropped from it"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std has value {list(self.std)}; every value must be above 0")
        if self.color == "rgb" and self.channels != 3:
            raise ValueError(f"color is rgb, so channels must be 3, not {self.channels}")
        return self


class Decision(_Section):
    """Threshold of the positive label."""

    positive: Text
    # smallest probability, of the image or of a pixel (segmentation), that is positive
    threshold: Annotated[float, Field(gt=0, lt=1)]
    # segmentation only: masks with fewer pixels of the network's input are emptied
    smallest: Annotated[int, Field(ge=1)] = 1
    chosen: Text  # how the threshold was determined, in words
    # of the images by which the threshold was chosen, at least; None for another rule
    sensitivity: Annotated[float, Field(gt=0, le=1)] | None = None


class Calibration(_Section):
    """Temperature that divides the logits before the activation (Guo et al. 2017)."""

    temperature: Annotated[float, Field(gt=0, le=100)]
    # added to the logit of the second of two labels before that; 0 where the bias is part of the weights
    bias: Annotated[float, Field(ge=-20, le=20)] = 0
    # share of positive images that the probabilities of a classifier assume; None if it is unknown
    prevalence: Share | None = None
    fitted: Text


class Uncertainty(_Section):
    """Class-conditional conformal prediction sets of a classifier with two labels; see `handlers.certainty`."""

    method: Literal["conformal"] = "conformal"
    level: Share  # share of the patients of each label whose set is to contain that label
    quantiles: dict[str, Annotated[float, Field(ge=0, le=1)]]  # label -> largest 1 - probability within the set
    # of the calibrated log-odds, around those of decision.threshold: there, the set has both labels
    margin: Annotated[float, Field(ge=0, le=100)] = 0
    fitted: Text
    split: Sha256  # of the split whose validation side was used


class SecondPass(_Section):
    """Second pass of dark images of a classifier with two labels; see `handlers.second_pass`."""

    darker_than: Share  # brightness of the network's input, below which an image gets a second pass
    fitted: Text


class Weights(_Section):
    """Weights: a safetensors file beside the recipe."""

    file: Text
    sha256: Sha256 | None  # None while the model is untrained
    source: Text | None = None  # how to get weights that are not in the repository


class Explanation(_Section):
    """Method that explains a classifier's predictions (handlers.explanation).

    `grad-cam` reads the network's output `features`, `attention-relevance` its output `attention`, whose tokens evenly
    share the pixels of a square map, row after row. `none` is for networks that return neither.
    """

    method: Literal["grad-cam", "attention-relevance", "none"] = "grad-cam"
    side: Annotated[int, Field(ge=1, le=4096)] | None = None  # side of that map

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.side is not None) != (self.method == "attention-relevance"):
            raise ValueError(f"side has value {self.side}; attention-relevance requires it, others do not accept it")
        return self


class Detector(_Section):
    """Detector of images that are unlike the training images: a safetensors file beside the recipe."""

    file: Text
    sha256: Sha256
    method: Text  # in words
    layers: tuple[Text, ...] = ()  # of the network, whose moments the program returns: the part `features`
    weights_sha256: Sha256 | None = None  # of the network's weights with which the layers were measured
    parts: Annotated[
        tuple[Literal["features", "thumbnail", "shape", "texture", "level", "colour", "bands"], ...],
        Field(min_length=1),
    ]
    marked: Annotated[float, Field(gt=0)]  # smallest score that is unusual
    refused: Annotated[float, Field(gt=0)]  # smallest score that is unlike
    fitted: Text  # to which images, in words
    # side of the split on whose images the limits were chosen; detectors of earlier releases do not record it
    limits_on: Literal["training", "validation"] | None = None
    split: Sha256  # of the training whose training images were used

    @model_validator(mode="after")
    def _check(self) -> Self:
        if ("features" in self.parts) != bool(self.layers):
            raise ValueError(
                f"layers has value {list(self.layers)}, but parts {list(self.parts)}; features need layers"
            )
        if self.weights_sha256 is not None and not self.layers:
            raise ValueError("weights_sha256 needs layers: without them, the detector does not depend on the weights")
        if self.marked > self.refused:
            raise ValueError(f"marked has value {self.marked}; it must not be above refused, {self.refused}")
        return self


Pair = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class Runtime(_Section):
    """Engine of the forward pass on a CPU, as measured by `radserve choose-runtime`; CUDA and gradients need torch."""

    engine: Literal["torch", "onnxruntime"]
    # CPU milliseconds of a batch of 1 and of 8 images with one thread, by engine
    milliseconds: dict[Literal["torch", "onnxruntime"], Pair] = {}
    measured: Text | None = None  # processor and versions


class Display(_Section):
    """What people who choose a model and read its results see instead of its name and title, in words."""

    name: Text  # "Chest X-ray: pneumonia"
    group: Text  # heading under which models for the same images are listed: a body part
    purpose: Text  # one sentence
    scope: Text  # patients and images that the model is for: "children 1 to 5 years, frontal film"
    not_for: Text
    finding: Text | None = None  # what a positive result shows: "pneumonia pattern"; default: the positive label
    photographs: bool = False  # whether pictures of a camera are what the model is for


class Recipe(_Section):
    """A validated `archive.yaml`.

    The activation is `softmax` over one logit per label, or `sigmoid` of one logit for the second of two labels;
    segmentation requires the sigmoid, of every pixel, and a decision. The prediction of the sample image is stored at
    build time and verified before a server is ready.
    """

    name: Name
    version: Version
    task: Literal["classification", "segmentation"]
    title: Text
    display: Display | None = None  # None: the title is shown
    network: Text  # name in `training.networks`, or `torchvision:NAME`, ...; used to build, not to serve
    network_args: dict[str, Any] = {}  # arguments of a network of a library, as plain data
    labels: Annotated[tuple[Text, ...], Field(min_length=2)]  # in the order of the network's outputs
    input: Input
    scope: Scope = Scope()
    activation: Literal["softmax", "sigmoid"]
    decision: Decision | None = None
    calibration: Calibration
    uncertainty: Uncertainty | None = None
    second_pass: SecondPass | None = None  # None if no image gets one
    explanation: Explanation | None = None  # classifiers only; the default is Grad-CAM
    runtime: Runtime = Runtime(engine="torch")
    weights: Weights
    detector: Detector | None = None  # None if no image is recognised as unlike the training images
    sample: Text  # image file beside the recipe and in the archive
    trained_on: Text
    licence: Text
    known_failures: tuple[Text, ...] = ()  # images on which these weights fail, as sentences with figures
    warning: Text | None = None  # part of every prediction of a model that is not for use

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels {list(self.labels)} are not unique")
        if self.activation == "sigmoid" and len(self.labels) != 2:
            raise ValueError(f"activation sigmoid needs 2 labels, not {len(self.labels)}")
        if self.task == "segmentation" and (self.activation != "sigmoid" or self.decision is None):
            raise ValueError("task segmentation needs activation sigmoid and a decision")
        if self.task == "segmentation" and self.explanation is not None:
            raise ValueError("task segmentation does not accept an explanation: the mask shows where the finding is")
        if self.decision is not None:
            if len(self.labels) != 2:
                raise ValueError(f"decision needs 2 labels, not {len(self.labels)}")
            if self.decision.positive not in self.labels:
                raise ValueError(
                    f"decision.positive has value {self.decision.positive!r}, which is not in {list(self.labels)}"
                )
            if self.task == "segmentation" and self.decision.positive != self.labels[1]:
                raise ValueError(
                    f"decision.positive has value {self.decision.positive!r}; of a segmentation it must be the second "
                    f"label, {self.labels[1]!r}, whose probability the mask shows. Reorder the labels or change it"
                )
        self._check_binary()
        return self

    def _check_binary(self) -> None:
        """Require two labels and a decision where a section has a meaning only with them."""
        sections = {
            "uncertainty": self.uncertainty is not None,
            "calibration.prevalence": self.calibration.prevalence is not None,
            "calibration.bias": self.calibration.bias != 0,
        }
        for key, is_used in sections.items():
            if is_used and not self.is_binary:
                raise ValueError(f"{key} needs task classification and a decision between 2 labels; remove it")
        if self.uncertainty is not None and set(self.uncertainty.quantiles) != set(self.labels):
            names = list(self.uncertainty.quantiles)
            raise ValueError(f"uncertainty.quantiles has labels {names}; labels is {list(self.labels)}")
        if self.second_pass is not None and self.uncertainty is None:
            raise ValueError("second_pass needs uncertainty: it makes results uncertain; add that section or remove it")

    @property
    def is_binary(self) -> bool:
        """Whether the model is a classifier that decides between two labels."""
        return self.task == "classification" and self.decision is not None

    @property
    def explains(self) -> bool:
        """Whether the model can explain its predictions."""
        no_method = self.explanation is not None and self.explanation.method == "none"
        return self.task == "classification" and not no_method

    @property
    def outputs(self) -> int:
        """Number of logits of the network."""
        return 1 if self.activation == "sigmoid" else len(self.labels)


def load(path: Path) -> Recipe:
    """Read and validate a recipe; `RecipeError` names file, key and value of every problem."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: recipe not found") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: invalid YAML: {error}") from error
    return parse(data, source=str(path))


def parse(data: Any, source: str) -> Recipe:
    """Validate a recipe that was loaded from `source`; see `load`."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{source}: {describe(error)}") from error
