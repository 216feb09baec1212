"""Fixed image changes that imitate the films of other hospitals, to measure robustness.

A model may rely on how the films of its training data were made. The results help to choose between settings; they are
never used to choose the threshold.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import torch
from torch.nn.functional import avg_pool2d, interpolate

from training.batches import Images


def conditions(images: Images) -> Mapping[str, Images]:
    """Apply each change to the images."""
    values = images.pixels.float() / 255
    return {
        name: replace(images, pixels=(change(values).clamp(0, 1) * 255).round().byte())
        for name, change in _CHANGES.items()
    }


def blurred(values: torch.Tensor) -> torch.Tensor:
    """Average windows of 3 x 3 pixels."""
    return avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)


def _sharpened(values: torch.Tensor) -> torch.Tensor:
    return values + 1.5 * (values - blurred(values))


def _contrasted(values: torch.Tensor, factor: float) -> torch.Tensor:
    middle = values.mean((-2, -1), keepdim=True)
    return middle + factor * (values - middle)


def cropped(values: torch.Tensor, part: int = 10) -> torch.Tensor:
    """Cut a `part`-th of the size off each side, and enlarge the rest."""
    height, width = values.shape[-2:]
    top, left = height // part, width // part
    inner = values[..., top : height - top, left : width - left]
    return interpolate(inner, (height, width), mode="bilinear", antialias=True)


def _bordered(values: torch.Tensor) -> torch.Tensor:
    height, width = values.shape[-2:]
    inner = interpolate(values, (height, width - 2 * (width // 10)), mode="bilinear", antialias=True)
    return torch.nn.functional.pad(inner, (width // 10, width // 10))


def _grainy(values: torch.Tensor) -> torch.Tensor:
    grain = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    return (values + 0.03 * grain).clamp(0, 1)


def _all(values: torch.Tensor) -> torch.Tensor:
    return _grainy(_contrasted(blurred(cropped(values)), 0.6)) ** 0.8


_CHANGES: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "blurred": blurred,
    "sharpened": _sharpened,
    "faint": lambda values: _contrasted(values, 0.6),
    "hard": lambda values: _contrasted(values, 1.5),
    "dark": lambda values: values**1.5,
    "light": lambda values: values**0.67,
    "cropped": cropped,
    "bordered": _bordered,
    "grainy": _grainy,
    "all": _all,
}
