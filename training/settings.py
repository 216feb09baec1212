"""How a model is trained: `training.yaml` beside its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.errors import SettingsError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Spread = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Augmentation(_Part):
    """Ranges of the random changes to a training image; 0 switches one off. See `training.augment`.

    Attributes
    ----------
    rotation
        Largest angle in degrees.
    shift
        Largest shift, as a share of the size.
    zoom
        (smallest, largest) factor; above 1 cuts the borders off.
    aspect, shear
        Largest logarithm of the ratio of the axes; largest slope.
    gamma, contrast
        Largest logarithm of exponent and factor.
    brightness
        Largest offset, of the scale [0, 1].
    shading
        Amplitude of a smooth field of brightness.
    bias
        Largest logarithm of a smooth field of gain, one for each channel: where the coil sees more or less.
    tone
        As gamma, one for each channel.
    missing
        Probability of each channel to be the middle one instead: how the glioma set fills up a sequence
        that a patient lacks, the middle one being FLAIR.
    blur, sharpen
        Largest standard deviation in pixels; largest share of the detail that is added.
    noise
        Largest standard deviation, of the scale [0, 1].
    erase
        Probability of each of two gray rectangles.
    mixup
        Concentration of the Beta distribution that mixes two images; classification only.
    flip
        Axes along which half of the images are mirrored.
    """

    rotation: Annotated[float, Field(ge=0, le=180)] = 0
    shift: Share = 0
    zoom: tuple[Positive, Positive] = (1, 1)
    aspect: Spread = 0
    shear: Spread = 0
    gamma: Spread = 0
    contrast: Spread = 0
    brightness: Share = 0
    shading: Share = 0
    bias: Spread = 0
    tone: Spread = 0
    missing: Share = 0
    blur: Annotated[float, Field(ge=0, le=3)] = 0
    sharpen: Spread = 0
    noise: Share = 0
    erase: Share = 0
    mixup: Spread = 0
    flip: tuple[Literal["horizontal", "vertical"], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom has value {list(self.zoom)}, the first must not be above the second")
        return self


class Space(_Part):
    """What `radserve tune` may choose for one key: one of `choices`, or from `low` to `high`.

    Attributes
    ----------
    log
        Whether the range is searched by its logarithm.
    whole
        Whether only whole numbers are meant.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[bool | int | float | str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        ranged = self.low is not None and self.high is not None and self.low < self.high
        if ranged == bool(self.choices) or (self.choices is not None and (self.log or self.whole)):
            raise ValueError("needs either choices alone, or low and high with low below high")
        if self.low is not None and self.log and self.low <= 0:
            raise ValueError(f"low has value {self.low:g}, a range that is searched by its logarithm starts above 0")
        if self.whole and not all(end is not None and end.is_integer() for end in (self.low, self.high)):
            raise ValueError(f"low and high have values {self.low} and {self.high}, whole numbers are meant")
        return self


class Settings(_Part):
    """One `training.yaml`, validated.

    Attributes
    ----------
    data
        Name of the data set in `training.datasets`.
    validation
        Share of the images put aside.
    seed
        Of the split, the first weights, the order, the augmentation and the bootstrap.
    learning_rate
        Highest of a one-cycle schedule.
    average
        Decay of the moving average of the weights, each step.
    steps
        Most batches an epoch; all images without it.
    patience
        Epochs without a better one after which the run ends; to the last epoch without it.
    clip
        Largest norm of the gradient.
    dropout
        Of every dropout layer, instead of the network's own.
    sensitivity
        What the threshold must reach on validation, where the answer is yes or no.
    demonstration
        Whether this is a short run that shows the way and no usable model; the card then says so.
    tune
        Key, a dot descends -> what `radserve tune` may choose for it.
    precision
        `bf16` computes convolutions in bfloat16; weights and optimizer stay single.
    """

    data: Annotated[str, Field(min_length=1)]
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 1
    epochs: Annotated[int, Field(ge=1)] = 40
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 1e-3
    weight_decay: Spread = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    steps: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    clip: Positive = 1.0
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    sensitivity: Annotated[float, Field(gt=0, le=1)] = 0.96
    demonstration: bool = False
    precision: Literal["single", "bf16"] = "single"
    augmentation: Augmentation = Augmentation()
    tune: dict[str, Space] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        fixed = sorted({"data", "validation", "seed", "tune"} & self.tune.keys())
        if fixed:
            raise ValueError(f"tune must not hold {', '.join(fixed)}: trials are compared on one split")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read and validate settings.

    Parameters
    ----------
    overrides
        `key=value`, the value as in YAML; a dot descends: `augmentation.rotation=5`.

    Raises
    ------
    SettingsError
        Naming file, key and value of everything that is wrong.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: missing; a model that can be trained has one beside its recipe.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: holds {type(data).__name__}, not keys and values.")
    for override in overrides:
        _override(data, override)
    return _parse(data, str(path))


def change(chosen: Settings, values: Mapping[str, Any]) -> Settings:
    """Change settings; a dot in a key descends.

    Raises
    ------
    SettingsError
        Naming every key and value that is wrong.
    """
    data = chosen.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        _set(data, key, value)
    return _parse(data, "changed settings")


def _parse(data: dict[str, Any], source: str) -> Settings:
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"key '{'.'.join(map(str, item['loc']))}' has value {item['input']!r}: {item['msg']}"
            for item in error.errors(include_url=False)
        )
        raise SettingsError(f"{source}: {problems}") from error


def _override(data: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set has value {text!r}; write key=value.")
    try:
        _set(data, key, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise SettingsError(f"--set has value {text!r}; what follows '=' is not YAML: {error}") from error


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise SettingsError(f"{key}={value} cannot be set: {part!r} has no keys below it.")
    data[last] = value
