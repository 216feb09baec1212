"""Expresses the transforms of a MONAI bundle as the input of a recipe, or says why that is impossible.

Intensities are followed as one affine function per channel. They start as the 8-bit values of a file, 255 times the
values of a recipe's input. MONAI's readers put the width of an image first, so the network's input is transposed.
"""

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

    Raises BundleError for a transform without equivalent; `approximate` accepts another resampling.
    """
    if channels not in (1, 3):
        raise BundleError(f"metadata: the input has {channels} channels; a recipe has 1 (gray) or 3 (rgb).")
    if not transforms:
        raise BundleError("preprocessing: missing, so how an image becomes the network's input is unknown.")
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


def activation(transforms: Sequence[Transform], outputs: int) -> tuple[str, float]:
    """Return the activation of the output, and the threshold of a sigmoid."""
    kind, threshold = "sigmoid" if outputs == 1 else None, 0.5
    for transform in transforms:
        name = _name(transform)
        if name == "Activations":
            kind = "sigmoid" if transform.get("sigmoid") else "softmax" if transform.get("softmax") else None
        elif name == "AsDiscrete":
            kind = "softmax" if transform.get("argmax") else kind
            threshold = float(transform.get("threshold") or threshold)
        elif name not in _IGNORED:
            raise BundleError(f"postprocessing: {transform['_target_']} has no equivalent in a recipe.")
    if kind is None or (kind == "softmax" and outputs == 1):
        raise BundleError(f"postprocessing: the activation of {outputs} outputs is neither a sigmoid nor a softmax.")
    return kind, threshold


def _rows_first(size: tuple[int, int], state: _State) -> tuple[int, int]:
    return (size[1], size[0]) if state.transposed else size


def _apply(transform: Transform, state: _State) -> _State:
    name = _name(transform)
    if name in _IGNORED:
        return state
    if name not in _TRANSFORMS:
        raise BundleError(f"preprocessing: {transform['_target_']} has no equivalent in a recipe's input.")
    return _TRANSFORMS[name](transform, state)


def _name(transform: Transform) -> str:
    """Return the name of a transform without the suffix of its dictionary version (`d`)."""
    name = str(transform["_target_"]).rpartition(".")[2]
    known = {*_TRANSFORMS, *_IGNORED, "Activations", "AsDiscrete"}
    plain = (name.removesuffix(suffix) for suffix in ("", "Dict", "D", "d"))
    return next((each for each in plain if each in known), name)


def _load(transform: Transform, state: _State) -> _State:
    reader = transform.get("reader")
    if reader not in _KEEPS_ROWS_FIRST:
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
    low, high = float(transform["a_min"]), float(transform["a_max"])
    start, end = transform.get("b_min"), transform.get("b_max")
    start, end = (0.0, 1.0) if start is None or end is None else (float(start), float(end))
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
    return state.affine([1 / value for value in divisors], [-a / b for a, b in zip(shifts, divisors, strict=True)])


def _per_channel(values: Any, channels: int) -> list[float]:
    items = list(map(float, values)) if isinstance(values, list) else [float(values)] * channels
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
    exact = mode in _MODES and bool(transform.get("anti_aliasing"))
    if not exact and not state.approximate:
        raise BundleError(
            f"preprocessing: resizes with mode {mode!r}"
            f"{'' if transform.get('anti_aliasing') else ' and without anti_aliasing'}. A recipe has bilinear or "
            "bicubic with it, which gives slightly different pixels. Accept that with --approximate."
        )
    notes = state.notes if exact else (*state.notes, f"Images are resampled bilinearly, not by mode {mode!r}.")
    resize = mode if mode in _MODES else "bilinear"
    return replace(state, size=(size[0], size[1]), resize=resize, notes=notes)


def _crop(transform: Transform, state: _State) -> _State:
    size = transform.get("roi_size")
    if state.size is None or not isinstance(size, list) or len(size) != 2:
        raise BundleError("preprocessing: CenterSpatialCrop has an equivalent only after Resize, with two sides.")
    return replace(state, crop=(int(size[0]), int(size[1])))


_TRANSFORMS: Final[Mapping[str, Callable[[Transform, _State], _State]]] = {
    "LoadImage": _load,
    "Transpose": _transpose,
    "ScaleIntensityRange": _scale_range,
    "ScaleIntensity": _scale_own_range,
    "NormalizeIntensity": _normalize,
    "Resize": _resize,
    "CenterSpatialCrop": _crop,
}
