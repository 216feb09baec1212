"""Expresses the transforms of a MONAI bundle as the input of a recipe, or says why that is impossible.

Intensities are followed as one affine function per channel. They start as the 8-bit values of a file, 255 times the
values of a recipe's input. MONAI's readers put the width of an image first, so the network's input is transposed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from radserve.errors import BundleError

Transform = Mapping[str, Any]
_IGNORED: Final = frozenset(
    {
        *("EnsureChannelFirst", "AsChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType", "Identity"),
        *("Invert", "SaveImage", "SaveClassification"),
    }
)
"""Transforms that do not change values: formats, and the way back to the size of the file, which the handlers go."""
_KEEPS_ROWS_FIRST: Final[Mapping[str | None, tuple[str, bool] | bool]] = {
    None: False,
    "NumpyReader": True,
    "PILReader": ("reverse_indexing", False),
    "ITKReader": ("reverse_indexing", True),
    "PydicomReader": ("swap_ij", False),
}
"""Reader of MONAI -> whether the height of an image is its first axis, or the argument and its value that say so."""
_MODES: Final = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """Input of a recipe, whether the network's input is transposed, and differences that were accepted."""

    input: Mapping[str, Any]
    transposed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _State:
    """Effect of the transforms so far."""

    channels: int
    approximate: bool
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    transposed: bool = False
    size: tuple[int, int] | None = None  # in the order of the axes
    crop: tuple[int, int] | None = None
    resize: str = "bilinear"
    notes: tuple[str, ...] = ()

    def affine(self, scale: Sequence[float], offset: Sequence[float]) -> "_State":
        """Apply `scale * value + offset`."""
        pairs = list(zip(self.scale, self.offset, scale, offset, strict=True))
        return replace(
            self,
            scale=tuple(own * factor for own, _, factor, _ in pairs),
            offset=tuple(own * factor + term for _, own, factor, term in pairs),
        )


def preprocessing(
    transforms: Sequence[Transform], channels: int, shape: tuple[int, int] | None, *, approximate: bool
) -> Preprocessing:
    """Express the transforms of the image; `shape` is that of the network's input, if it is known.

    Raises BundleError for a transform without equivalent; `approximate` accepts another filter of Resize.
    """
    if channels not in (1, 3):
        raise BundleError(f"metadata: the input has {channels} channels; a recipe has 1 (gray) or 3 (rgb).")
    if not transforms:
        raise BundleError("preprocessing: missing, so how an image becomes the network's input is unknown.")
    if not any(_name(transform) == "LoadImage" for transform in transforms):
        raise BundleError("preprocessing: has no LoadImage, so the order of an image's axes is unknown.")
    state = _State(channels, approximate, (255.0,) * channels, (0.0,) * channels)
    for transform in transforms:
        state = _apply(transform, state)
    frame = state.size or shape
    if frame is None:
        raise BundleError("preprocessing: resizes to no fixed size (Resized), and the metadata has no spatial_shape.")
    size = state.crop or frame
    height, width = _rows_first(size, state)
    spec = {
        "color": "gray" if channels == 1 else "rgb",
        "channels": channels,
        "height": height,
        "width": width,
        "resize": state.resize,
        "mean": tuple(-offset / scale for scale, offset in zip(state.scale, state.offset, strict=True)),
        "std": tuple(1 / scale for scale in state.scale),
    }
    return Preprocessing(
        spec | ({"frame": _rows_first(frame, state)} if state.crop else {}), state.transposed, state.notes
    )


def activation(transforms: Sequence[Transform], outputs: int, given: str | None = None) -> tuple[str, float | None]:
    """Return the activation of the output, and the threshold of the second label's probability, if there is one.

    `given` is the activation that the caller states; it is required where the transforms do not.
    """
    kind, threshold, of_logits = None, None, None
    for transform in transforms:
        name = _name(transform)
        if name == "Activations":
            kind = "sigmoid" if transform.get("sigmoid") else "softmax" if transform.get("softmax") else kind
        elif name == "AsDiscrete":
            limit = None if transform.get("threshold") is None else _number(transform, "threshold")
            threshold, of_logits = (threshold, limit) if kind is None else (limit, of_logits)
            kind = "softmax" if transform.get("argmax") else kind
        elif name not in _IGNORED:
            raise BundleError(f"postprocessing: {transform['_target_']} has no equivalent in a recipe.")
    kind = _agreed(kind, given, outputs)
    if of_logits is not None:
        if kind != "sigmoid":
            raise BundleError(
                f"postprocessing: the threshold {of_logits:g} of outputs before a softmax has no equivalent."
            )
        threshold = 1 / (1 + math.exp(-of_logits))
    if threshold is not None and outputs > 2:
        raise BundleError(f"postprocessing: a threshold of {outputs} outputs has no equivalent; a recipe has one of 2.")
    return kind, threshold


def _agreed(kind: str | None, given: str | None, outputs: int) -> str:
    if kind is not None and given not in (None, kind):
        raise BundleError(f"--activation has value {given!r}; the postprocessing of the bundle is a {kind}. Omit it.")
    kind = kind or given
    if kind is None:
        raise BundleError(
            f"postprocessing: does not state the activation of {outputs} outputs (Activations, or AsDiscrete with "
            "argmax). Give --activation sigmoid or softmax."
        )
    if kind not in ("sigmoid", "softmax") or (kind == "softmax" and outputs == 1):
        raise BundleError(f"postprocessing: the activation of {outputs} outputs cannot be {kind!r}.")
    return kind


def _number(transform: Transform, key: str) -> float:
    try:
        return float(transform[key])
    except (KeyError, TypeError, ValueError):
        raise BundleError(f"{transform['_target_']}: {key} has value {transform.get(key)!r}, not a number.") from None


def _rows_first(size: tuple[int, int], state: _State) -> tuple[int, int]:
    return (size[1], size[0]) if state.transposed else size


def _apply(transform: Transform, state: _State) -> _State:
    name = _name(transform)
    if name in _IGNORED:
        _check_type(transform, state)
        return state
    if name not in _TRANSFORMS:
        raise BundleError(f"preprocessing: {transform['_target_']} has no equivalent in a recipe's input.")
    return _TRANSFORMS[name](transform, state)


def _check_type(transform: Transform, state: _State) -> None:
    """Reject whole numbers after a change of the 8-bit values: they would be rounded."""
    kind = transform.get("dtype")
    unchanged = state.size is None and state.scale == (255.0,) * state.channels and not any(state.offset)
    if kind is not None and "float" not in str(kind) and not unchanged:
        raise BundleError(
            f"preprocessing: {transform['_target_']} to {kind} after a change of values has no equivalent."
        )


def _name(transform: Transform) -> str:
    """Return the name of a transform without the suffix of its dictionary version (`d`)."""
    name = str(transform["_target_"]).rpartition(".")[2]
    known = {*_TRANSFORMS, *_IGNORED, "Activations", "AsDiscrete"}
    plain = (name.removesuffix(suffix) for suffix in ("", "Dict", "D", "d"))
    return next((each for each in plain if each in known), name)


def _load(transform: Transform, state: _State) -> _State:
    reader = transform.get("reader")
    if not isinstance(reader, str | None) or reader not in _KEEPS_ROWS_FIRST:
        raise BundleError(f"preprocessing: the reader {reader} is unknown, and so is the order of the axes it returns.")
    rule = _KEEPS_ROWS_FIRST[reader]
    if isinstance(rule, tuple):
        key, value = rule
        rule = transform.get(key, not value) is value
    return replace(state, transposed=not rule)


def _transpose(transform: Transform, state: _State) -> _State:
    indices = list(transform.get("indices", []))
    if indices not in ([0, 1, 2], [0, 2, 1]) or state.size is not None:
        raise BundleError(f"preprocessing: Transpose with the indices {indices}, or after Resize, has no equivalent.")
    return replace(state, transposed=state.transposed != (indices == [0, 2, 1]))


def _scale_range(transform: Transform, state: _State) -> _State:
    low, high = _number(transform, "a_min"), _number(transform, "a_max")
    none = transform.get("b_min") is None or transform.get("b_max") is None
    start, end = (0.0, 1.0) if none else (_number(transform, "b_min"), _number(transform, "b_max"))
    if start == end:
        raise BundleError(f"preprocessing: ScaleIntensityRange to {start:g} alone makes every image equal.")
    if low < 0 or high > 255 or high <= low:
        raise BundleError(f"preprocessing: the range {low:g} to {high:g} is not within 8-bit values, 0 to 255.")
    if transform.get("clip") and (low, high) != (0, 255):
        raise BundleError(f"preprocessing: clipping at {low:g} and {high:g} has no equivalent in a recipe's input.")
    if state.scale != (255.0,) * state.channels or any(state.offset):
        raise BundleError("preprocessing: ScaleIntensityRange after another change of intensities has no equivalent.")
    factor = (end - start) / (high - low)
    return state.affine([factor] * state.channels, [start - low * factor] * state.channels)


def _normalize(transform: Transform, state: _State) -> _State:
    shift, divisor = transform.get("subtrahend"), transform.get("divisor")
    if shift is None or divisor is None or transform.get("nonzero"):
        raise BundleError(
            "preprocessing: NormalizeIntensity by each image's own mean and deviation (no subtrahend and divisor) has "
            "no equivalent in a recipe's input."
        )
    shifts, divisors = (_per_channel(values, state.channels) for values in (shift, divisor))
    if 0 in divisors:
        raise BundleError(f"preprocessing: NormalizeIntensity has the divisor {divisor}; it must not be 0.")
    return state.affine([1 / value for value in divisors], [-a / b for a, b in zip(shifts, divisors, strict=True)])


def _per_channel(values: Any, channels: int) -> list[float]:
    try:
        items = list(map(float, values)) if isinstance(values, list) else [float(values)] * channels
    except (TypeError, ValueError):
        raise BundleError(f"preprocessing: NormalizeIntensity has {values!r}, not numbers.") from None
    if len(items) != channels:
        raise BundleError(f"preprocessing: NormalizeIntensity has {len(items)} values for {channels} channels.")
    return items


def _scale_own_range(transform: Transform, _: _State) -> _State:
    raise BundleError(
        f"preprocessing: {transform['_target_']} scales by each image's own minimum and maximum, which has no "
        "equivalent in a recipe's input."
    )


def _resize(transform: Transform, state: _State) -> _State:
    size = transform.get("spatial_size")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise BundleError(f"preprocessing: Resize to {size} has no equivalent; a recipe needs two fixed sides.")
    if transform.get("size_mode", "all") != "all" or transform.get("align_corners"):
        raise BundleError("preprocessing: Resize with size_mode 'longest' or align_corners has no equivalent.")
    mode = str(transform.get("mode", "area"))
    resize = mode if mode in _MODES else "bilinear"
    theirs = f"mode {mode!r} {'with' if transform.get('anti_aliasing') else 'without'} anti_aliasing"
    if not state.approximate:
        raise BundleError(
            f"preprocessing: resizes by MONAI's {theirs}. A recipe has Pillow's {resize} filter, which gives other "
            "pixels where the size changes. Accept that with --approximate, and measure the model."
        )
    note = f"Images are resized by Pillow's {resize} filter, not by MONAI's {theirs}."
    return replace(state, size=(size[0], size[1]), resize=resize, notes=(*state.notes, note))


def _crop(transform: Transform, state: _State) -> _State:
    size: Any = transform.get("roi_size")
    whole = isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    if state.size is None or not whole:
        raise BundleError("preprocessing: CenterSpatialCrop has an equivalent only after Resize, with two sides.")
    return replace(state, crop=(size[0], size[1]))


_TRANSFORMS: Final[Mapping[str, Callable[[Transform, _State], _State]]] = {
    "LoadImage": _load,
    "Transpose": _transpose,
    "ScaleIntensityRange": _scale_range,
    "ScaleIntensity": _scale_own_range,
    "NormalizeIntensity": _normalize,
    "Resize": _resize,
    "CenterSpatialCrop": _crop,
}
