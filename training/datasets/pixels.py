"""Reads examples into tensors with the serving pipeline, and computes the statistics of pixels."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from handlers import preprocess
from handlers.errors import RequestError
from handlers.formats import decode
from handlers.geometry import Geometry
from handlers.recipe import Input
from training.datasets import lgg_mri
from training.datasets.example import Example
from training.errors import DataError


def read(examples: Sequence[Example], spec: Input, threads: int = 2) -> torch.Tensor:
    """Decode and resize every example like the server, to uint8 of shape (N, 1 or 3, height, width)."""
    return _stack(examples, lambda example: _read(example, spec), threads)


def masks(examples: Sequence[Example], spec: Input, threads: int = 2) -> torch.Tensor:
    """Resize the mask of every example to the geometry of the input, (N, 1, height, width) with 0 and 1."""
    return _stack(examples, lambda example: _mask(example, spec), threads)


def statistics(images: torch.Tensor, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of all pixels, scaled to [0, 1], one value per channel.

    Images are uint8 (N, 1 or channels, height, width); the values of gray ones are repeated.
    """
    means, stds = zip(*(_moments(images[:, channel]) for channel in range(images.shape[1])), strict=True)
    repeat = channels // images.shape[1]
    return means * repeat, stds * repeat


def _moments(values: torch.Tensor) -> tuple[float, float]:
    # Counting the 256 values is exact for any number of pixels.
    counts = torch.bincount(values.flatten().int(), minlength=256).double()
    scale = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * scale).sum() / counts.sum()
    variance = (counts * (scale - mean) ** 2).sum() / counts.sum()
    return round(mean.item(), 6), round(variance.sqrt().item(), 6)


def _stack(examples: Sequence[Example], load: Callable[[Example], NDArray[np.uint8]], threads: int) -> torch.Tensor:
    with ThreadPoolExecutor(threads) as pool:
        return torch.from_numpy(np.stack(list(pool.map(load, examples))))


def _read(example: Example, spec: Input) -> NDArray[np.uint8]:
    try:
        image = decode.decode(example.read(), at_least=preprocess.at_least(spec))
    except (OSError, RequestError) as error:
        raise DataError(f"{example.path}: {example.name}: {error} Repair or remove the file.") from error
    values = np.rint(preprocess.resize(image, spec) * 255).astype(np.uint8)
    # A gray image in a colour data set gets three equal channels.
    return values.repeat(spec.channels, axis=0) if spec.color == "rgb" and len(values) == 1 else values


def _mask(example: Example, spec: Input) -> NDArray[np.uint8]:
    if example.mask is None:
        raise DataError(f"{example.path}: has no mask, which training a segmentation requires.")
    mask = lgg_mri.read_mask(example.mask)
    with Pillow.open(example.path) as image:
        if image.size != mask.size:
            raise DataError(f"{example.mask}: has {mask.size} pixels, its image {image.size}; sizes must be equal.")
    small = Geometry.of(*mask.size, spec).apply(mask, Pillow.Resampling.BILINEAR)
    return (np.asarray(small) >= 128).astype(np.uint8)[None]
