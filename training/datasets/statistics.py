"""Mean and standard deviation of the training pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Statistics:
    """Of all pixels of all images in [0, 1], one value a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def of_pixels(images: torch.Tensor, channels: int) -> Statistics:
    """Measure uint8 images of shape (N, 1 or channels, height, width); gray counts for every channel.

    The spread is that of the pixels, not of the images' means: the original system took the latter.
    """
    means, stds = zip(*(_moments(images[:, place]) for place in range(images.shape[1])), strict=True)
    repeat = channels // images.shape[1]
    return Statistics(mean=means * repeat, std=stds * repeat)


def _moments(values: torch.Tensor) -> tuple[float, float]:
    # Counting the 256 values is exact, whatever the number of pixels.
    counts = torch.bincount(values.flatten().int(), minlength=256).double()
    scale = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * scale).sum() / counts.sum()
    variance = (counts * (scale - mean) ** 2).sum() / counts.sum()
    return round(mean.item(), 6), round(variance.sqrt().item(), 6)
