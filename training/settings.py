"""Training settings: `training.yaml` of a model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from handlers.validation_error import describe
from training.errors import SettingsError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Spread = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Augmentation(_Part):
    """Ranges of the random changes to a training image; 0 disables a change. See `training.augment`."""

    rotation: Annotated[float, Field(ge=0, le=180)] = 0  # maximum angle in degrees
    shift: Share = 0  # maximum, as a share of the size
    zoom: tuple[Positive, Positive] = (1, 1)  # (minimum, maximum) factor; above 1 crops the borders
    aspect: Spread = 0  # maximum logarithm of the ratio of the axes
    shear: Spread = 0  # maximum slope
    gamma: Spread = 0  # maximum logarithm of the exponent
    contrast: Spread = 0  # maximum logarithm of the factor
    brightness: Share = 0  # maximum offset, on the scale [0, 1]
    shading: Share = 0  # amplitude of a smooth field of brightness
    bias: Spread = 0  # maximum logarithm of a smooth field of gain, one per channel: the sensitivity of the coil
    tone: Spread = 0  # like gamma, one per channel
    missing: Share = 0  # probability that the middle channel replaces a channel, as in the glioma data set
    blur: Annotated[float, Field(ge=0, le=3)] = 0  # maximum standard deviation in pixels
    sharpen: Spread = 0  # maximum share of the detail that is added
    noise: Share = 0  # maximum standard deviation, on the scale [0, 1]
    erase: Share = 0  # probability of each of two gray rectangles
    # probability that a film loses its burned-in letters, and that it gets those of a random other film of the batch;
    # with scale 1 only
    letters: Share = 0
    mixup: Spread = 0  # concentration of the Beta distribution that mixes two images; classification only
    flip: tuple[Literal["horizontal", "vertical"], ...] = ()  # axes along which half of the images are mirrored

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom is {list(self.zoom)}; the first value must not be above the second")
        return self


class Space(_Part):
    """Search space of one key for `radserve tune`: one of `choices`, or from `low` to `high`."""

    low: float | None = None
    high: float | None = None
    log: bool = False  # whether to search the range on a logarithmic scale
    whole: bool = False  # whether to use only integers
    choices: tuple[bool | int | float | str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        has_range = self.low is not None and self.high is not None and self.low < self.high
        if has_range == bool(self.choices) or (self.choices is not None and (self.log or self.whole)):
            raise ValueError("requires either choices alone, or low and high with low below high")
        if self.low is not None and self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}; a logarithmic range must start above 0")
        if self.whole and not all(end is not None and end.is_integer() for end in (self.low, self.high)):
            raise ValueError(f"low and high are {self.low} and {self.high}; with 'whole' they must be integers")
        return self


class DetectorSettings(_Part):
    """How the detector of unlike images is fitted; see `training.detector`."""

    layers: tuple[str, ...] = ()  # of the network, whose moments are the evidence `features`
    # principal components by kind of evidence
    components: Annotated[
        dict[Literal["features", "thumbnail", "shape", "texture", "level", "colour", "bands"], int], Field(min_length=1)
    ]
    images: Annotated[int, Field(ge=1)] = 2000  # most training images to fit to
    copies: Annotated[int, Field(ge=0)] = 1  # re-encoded copies of every training image
    # shares of the held-out images that are unusual or unlike, and unlike; the fewer groups, the less certain
    marked: Annotated[float, Field(gt=0, lt=1)] = 0.035
    refused: Annotated[float, Field(gt=0, lt=1)] = 0.015

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.marked < self.refused:
            raise ValueError(
                f"marked is {self.marked:g}; it includes the unlike images, so it must not be below refused, "
                f"{self.refused:g}"
            )
        return self


class Settings(_Part):
    """Content of a `training.yaml`."""

    data: Annotated[str, Field(min_length=1)]  # name of the data set in `training.datasets`
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15  # share of the images
    # of the split, the initial weights, the order, the augmentation and the bootstrap
    seed: Annotated[int, Field(ge=0)] = 1
    epochs: Annotated[int, Field(ge=1)] = 40
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 1e-3  # maximum of a one-cycle schedule
    weight_decay: Spread = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    # Classification only: weight of the squared difference of the probabilities of two augmented views of an image, so
    # that what the augmentation changes moves no probability (Sajjadi et al., NeurIPS 2016).
    consistency: Spread = 0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998  # decay of the moving average of the weights, per step
    steps: Annotated[int, Field(ge=1)] | None = None  # maximum number of batches per epoch
    patience: Annotated[int, Field(ge=1)] | None = None  # epochs without improvement before the run stops
    clip: Positive = 1.0  # maximum norm of the gradient
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None  # rate of every dropout layer; by default the network's
    sensitivity: Annotated[float, Field(gt=0, le=1)] = 0.96  # of the threshold on the validation side, for two labels
    false_alarms: Share = 1  # of a mask's decision on slices without a finding, at most; segmentation only
    level: Annotated[float, Field(gt=0, lt=1)] = 0.9  # of the prediction sets (`training.uncertainty`), for two labels
    # of the validation images, the darkest, that get a second pass (`training.second_pass`), for two labels; None if
    # no image gets one
    second_pass: Annotated[float, Field(gt=0, lt=1)] | None = None
    demonstration: bool = False  # a short run that does not produce a usable model; the card then says so
    precision: Literal["single", "bf16"] = "single"  # bf16: convolutions only
    # Size of the training images relative to the network's input: a first run at .5 takes a quarter of the time, and a
    # second one at 1 starts from it (progressive resizing). For networks with adaptive pooling, and segmentations.
    scale: Annotated[float, Field(gt=0, le=1)] = 1
    augmentation: Augmentation = Augmentation()
    detector: DetectorSettings | None = None  # None for a model without a detector
    tune: dict[str, Space] = {}  # search space by key; a dot in a key descends

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.consistency and self.augmentation.mixup:
            raise ValueError("consistency compares two views of one image, so augmentation.mixup must be 0")
        if self.augmentation.letters and self.scale < 1:
            raise ValueError("augmentation.letters finds letters by their size in pixels, so scale must be 1")
        fixed = sorted({"data", "validation", "seed", "tune"} & self.tune.keys())
        if fixed:
            raise ValueError(f"tune must not contain {', '.join(fixed)}: trials are compared on the same split")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read and validate settings; `SettingsError` lists file, key and value of every problem.

    Overrides are `key=value`, with the value in YAML; a dot descends: `augmentation.rotation=5`.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: not found. A model needs it beside its recipe to be trained.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: invalid YAML: {error}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: contains {type(data).__name__}, expected keys and values.")
    for override in overrides:
        _override(data, override)
    return _parse(data, str(path))


def change(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return changed settings; a dot in a key descends."""
    data = settings.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        _set(data, key, value)
    return _parse(data, "changed settings")


def _parse(data: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise SettingsError(f"{source}: {describe(error)}") from error


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set: invalid value {text!r}. Expected key=value.")
    try:
        _set(data, key, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise SettingsError(f"--set: invalid value {text!r}; the part after '=' is invalid YAML: {error}") from error


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise SettingsError(f"Cannot set {key}={value}: {part!r} has no keys.")
    data[last] = value
