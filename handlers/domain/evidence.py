"""Numbers that describe an image to the detector."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from handlers.recipe import Input

Vector = NDArray[np.float32]

THUMBNAIL: Final = 16
"""Side of the thumbnail."""
_RINGS: Final = 10
_QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_EXTREMES: Final = 0.02
"""Distance from black and white, as a fraction of full scale, within which a pixel counts as black or white."""
_TINY: Final = 1e-8


def luminance(tensor: NDArray[np.float32], spec: Input) -> torch.Tensor:
    """Return the gray values, (height, width) in [0, 1], of a network's input (channels, height, width)."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    return (torch.from_numpy(tensor) * std + mean).mean(0)


def thumbnail(gray: torch.Tensor, side: int = THUMBNAIL) -> torch.Tensor:
    """Scale gray values (height, width) to a square."""
    return adaptive_avg_pool2d(gray[None], side)[0]


def texture(gray: torch.Tensor) -> torch.Tensor:
    """Describe gray values (height, width) by their spectrum and their histogram.

    The spectrum is cut into rings of equal width, and each into a horizontal, a vertical and a diagonal part: the
    logarithms of their mean power, and of the largest power over the mean in each ring. A grid of pixels (a photograph
    of a screen) is a peak, interpolation a loss in the outer rings.
    """
    height, width = gray.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    power = torch.fft.rfft2((gray - gray.mean()) * window).abs().square().flatten()
    sector = _sectors(height, width)
    count = torch.bincount(sector, minlength=3 * _RINGS + 1)
    mean = torch.bincount(sector, power, minlength=3 * _RINGS + 1) / count.clamp(min=1)
    largest = torch.zeros(3 * _RINGS + 1).scatter_reduce_(0, sector, power, "amax")
    mean, largest = mean[: 3 * _RINGS] + _TINY, largest[: 3 * _RINGS] + _TINY
    peak = (largest.view(_RINGS, 3).amax(1) / mean.view(_RINGS, 3).mean(1)).log()
    share = torch.stack([(gray < _EXTREMES).float().mean(), (gray > 1 - _EXTREMES).float().mean()])
    quantiles = torch.quantile(gray.flatten()[::7], torch.tensor(_QUANTILES))
    return torch.cat([mean.log(), peak, quantiles, share])


def _sectors(height: int, width: int) -> torch.Tensor:
    """Return the number of the ring and direction of each frequency of a real spectrum; the last is outside of all."""
    rows, columns = torch.fft.fftfreq(height)[:, None].abs(), torch.fft.rfftfreq(width)[None]
    ring = (torch.hypot(rows, columns) * 2 * _RINGS).long()
    angle = torch.atan2(rows.expand(height, -1), columns.expand(height, -1))
    direction = (angle * 3 / (torch.pi / 2)).long().clamp(max=2)  # 0 horizontal, 1 diagonal, 2 vertical
    sector = torch.where((ring < _RINGS) & (ring + rows > 0), ring * 3 + direction, 3 * _RINGS)
    return sector.flatten()


def collect(moments: Vector, gray: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the evidence by part: moments of the network's layers, thumbnail and texture."""
    return {"features": torch.from_numpy(moments), "thumbnail": thumbnail(gray).flatten(), "texture": texture(gray)}
