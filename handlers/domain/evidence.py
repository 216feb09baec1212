"""Numbers that describe an image to the detector."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d, pad

from handlers.domain.colour import bands, colours
from handlers.recipe import Input

Vector = NDArray[np.float32]

THUMBNAIL: Final = 16
"""Side of the thumbnail."""
_SHAPE: Final = (96, 7, 6)
"""Side of the picture whose gradients are taken, cells on a side, directions in a cell."""
_RINGS: Final = 16
_SECTORS: Final = 3 * _RINGS
_NEIGHBOURS: Final = 13
"""Side of the neighbourhood in the spectrum with which a peak is compared."""
_QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_TINY: Final = 1e-8
"""Smallest power of a frequency, so that it has a logarithm."""
_STEP: Final = 17
"""The quantiles are those of every such pixel, because sorting all takes longer than the rest."""
_BRIGHT: Final = 0.9
_DARKEST: Final = 0.01
"""Smallest gray level that `level` tells from black."""
_EXTREMES: Final = 0.02
"""Distance from black and white, as a fraction of full scale, within which a pixel counts as black or white."""


def intensities(tensor: NDArray[np.float32], spec: Input) -> torch.Tensor:
    """Return the values in [0, 1] of a network's input, both (channels, height, width)."""
    image, mean, std = torch.from_numpy(tensor), _column(*spec.mean), _column(*spec.std)
    if spec.color == "gray" and len({*spec.mean}) == len({*spec.std}) == 1:  # the channels are the same
        return (image[:1] * std[:1] + mean[:1]).expand_as(image)
    return image * std + mean


@cache
def _column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


def luminance(image: torch.Tensor) -> torch.Tensor:
    """Return the gray values (height, width) of an image (channels, height, width)."""
    return image.mean(0)


def thumbnail(gray: torch.Tensor, side: int = THUMBNAIL) -> torch.Tensor:
    """Scale gray values (height, width) to a square."""
    return adaptive_avg_pool2d(gray[None], side)[0]


def shape(gray: torch.Tensor) -> torch.Tensor:
    """Describe the outlines in gray values by histograms of oriented gradients, normalised over the image.

    Dalal and Triggs 2005, "Histograms of Oriented Gradients for Human Detection", with square roots as in its section
    6.1. The contrast of the image has no influence.
    """
    side, cells, directions = _SHAPE
    small = thumbnail(gray, side)
    across, down = small[1:-1, 2:] - small[1:-1, :-2], small[2:, 1:-1] - small[:-2, 1:-1]
    bins = (torch.atan2(down, across) % math.pi * (directions / math.pi)).long().clamp(max=directions - 1)
    votes = torch.zeros(directions, *bins.shape).scatter_(0, bins[None], torch.hypot(across, down)[None])
    histograms: torch.Tensor = adaptive_avg_pool2d(votes, cells).flatten()
    normalised: torch.Tensor = histograms / (torch.linalg.vector_norm(histograms) + 1e-3)
    return normalised.sqrt()


def texture(gray: torch.Tensor) -> torch.Tensor:
    """Describe gray values (height, width) by their spectrum and their histogram.

    The spectrum is cut into rings of equal width, and each into a horizontal, a diagonal and a vertical part: the
    logarithms of their mean powers, and of the highest peak in each ring over its neighbourhood. A grid of pixels (a
    photograph of a screen) is a peak, interpolation a loss in the outer rings.
    """
    window, sectors, rings, counts = _frequencies(*gray.shape)
    spectrum = torch.fft.rfft2((gray - gray.mean()) * window)
    power = spectrum.real.square() + spectrum.imag.square() + _TINY
    mean = torch.bincount(sectors, power.flatten(), minlength=_SECTORS + 1) / counts
    logarithm = power.log()
    peaks = (logarithm - _around(logarithm)).flatten()
    highest = torch.zeros(_RINGS + 1).scatter_reduce_(0, rings, peaks, "amax")
    share = torch.stack([(gray < _EXTREMES).float().mean(), (gray > 1 - _EXTREMES).float().mean()])
    return torch.cat([mean[:-1].clamp_min(_TINY).log(), highest[:-1], _quantiles(gray, _QUANTILES), share])


def level(gray: torch.Tensor) -> torch.Tensor:
    """Describe how dark gray values (height, width) are: the inverse of their mean times their 90 % quantile.

    Wide margins lower the mean too. The inverse spreads dark images and not bright ones, so that only a dark image is
    far from the others.
    """
    levels = torch.cat([gray.mean()[None], _quantiles(gray, (_BRIGHT,))])
    return 1 / levels.clamp_min(_DARKEST).prod()[None]


def _quantiles(gray: torch.Tensor, ranks: Sequence[float]) -> torch.Tensor:
    levels = torch.from_numpy(np.sort(gray.flatten()[::_STEP].numpy()))  # torch sorts 20 times as slowly
    return levels[[int(rank * (len(levels) - 1)) for rank in ranks]]


def _around(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of the square around each value of a spectrum, whose rows are periodic.

    By cumulated sums: a pooling layer takes 30 times as long.
    """
    half = _NEIGHBOURS // 2
    wide = pad(pad(values[None], (0, 0, half, half), mode="circular"), (half, half, 0, 0), mode="reflect")[0]
    for axis in (0, 1):
        sums = wide.cumsum(axis)
        first, size = sums.narrow(axis, _NEIGHBOURS - 1, 1), sums.shape[axis] - _NEIGHBOURS
        rest = sums.narrow(axis, _NEIGHBOURS, size) - sums.narrow(axis, 0, size)
        wide = torch.cat([first, rest], axis) / _NEIGHBOURS
    return wide


@cache
def _frequencies(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a window against the edges, sector and ring of each frequency of a real spectrum, and the sectors' sizes.

    The last sector, and ring, is what lies beyond all rings.
    """
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    rows, columns = torch.fft.fftfreq(height)[:, None].abs(), torch.fft.rfftfreq(width)[None]
    ring = (torch.hypot(rows, columns) * 2 * _RINGS).long()
    direction = (torch.atan2(rows, columns) * (3 / (math.pi / 2))).long().clamp(max=2)
    sectors = torch.where(ring < _RINGS, ring * 3 + direction, _SECTORS).flatten()
    return window, sectors, sectors // 3, torch.bincount(sectors, minlength=_SECTORS + 1).clamp(min=1)


_OF_GRAY: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "thumbnail": lambda gray: thumbnail(gray).flatten(),
    "shape": shape,
    "texture": texture,
    "level": level,
}
"""Parts that need only the luminance."""
_OF_COLOUR: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {"colour": colours, "bands": bands}
"""Parts that need red, green and blue."""

ALL: Final = (*_OF_GRAY, *_OF_COLOUR, "features")


def collect(moments: Vector | None, image: torch.Tensor, names: Collection[str] = ALL) -> dict[str, torch.Tensor]:
    """Return the evidence of an image (channels, height, width) by part, the named ones.

    `features` are the moments of the network's layers, if given.
    """
    gray = luminance(image)
    parts = {name: describe(gray) for name, describe in _OF_GRAY.items() if name in names}
    parts |= {name: describe(image.expand(3, -1, -1)) for name, describe in _OF_COLOUR.items() if name in names}
    return parts if moments is None or "features" not in names else parts | {"features": torch.from_numpy(moments)}
