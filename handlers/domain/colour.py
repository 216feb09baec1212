"""Colours and scales of an image, measured so coarsely that another encoding or rounding hardly changes them."""

from typing import Final

import torch
from torch.nn.functional import avg_pool2d

_TINY: Final = 1e-4
"""Smallest saturation and spread, so that those of a gray image have a logarithm."""
_FAINT: Final = 2e-3
"""Added to the energy of a band: half of an 8-bit level, which another rounding changes."""
_OCTAVES: Final = 3
_QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_EXTREMES: Final = 0.02
"""Distance from black and white, as a fraction of full scale, within which a pixel counts as black or white."""
_FEW: Final = 0.01
"""Added to the share of black or white pixels, so that none has a logarithm."""


def colours(image: torch.Tensor) -> torch.Tensor:
    """Describe how colourful an image (3, height, width) in [0, 1] is, at half its size, whatever its brightness."""
    half = _half(image)
    saturation = half.amax(0) - half.amin(0)
    spreads = _opponents(half)[1:].flatten(1).std(1)
    return torch.cat([spreads, torch.stack([saturation.mean(), saturation.std()])]).add(_TINY).log()


def bands(image: torch.Tensor) -> torch.Tensor:
    """Describe the contrast of an image (3, height, width) in [0, 1] by scale and direction, and its gray levels.

    The finest scale is left out: it differs between encodings. For each octave, and for luminance and both opponent
    colours: mean absolute difference across, down and diagonally, and how peaked the differences are.
    """
    half = _half(image)
    levels, numbers = _levels(half.mean(0)), []
    planes = _opponents(half)
    for _ in range(_OCTAVES):
        across, down = planes[:, :, 1:] - planes[:, :, :-1], planes[:, 1:] - planes[:, :-1]
        diagonal = across[:, 1:] - across[:, :-1]
        for differences in (across, down, diagonal):
            mean = differences.abs().mean((1, 2)) + _FAINT
            root = differences.square().mean((1, 2)).sqrt() + _FAINT
            numbers += [mean.log(), (root / mean).log()]
        planes = _half(planes)
    return torch.cat([*numbers, levels])


def _half(planes: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(planes[None], 2)[0]


def _opponents(image: torch.Tensor) -> torch.Tensor:
    """Return luminance, red against green, and yellow against blue; a gray image has only the first."""
    red, green, blue = image
    return torch.stack([image.mean(0), red - green, (red + green) / 2 - blue])


def _levels(gray: torch.Tensor) -> torch.Tensor:
    levels = gray.flatten().sort().values
    quantiles = levels[[int(rank * (len(levels) - 1)) for rank in _QUANTILES]]
    extremes = torch.stack([(gray < _EXTREMES).float().mean(), (gray > 1 - _EXTREMES).float().mean()])
    return torch.cat([quantiles, (gray.std() + _FAINT).log()[None], (extremes + _FEW).log()])
