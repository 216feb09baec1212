"""Examples to tensors in memory, through the pipeline that serves."""

from __future__ import annotations

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
    """Decode and resize every example as the server would.

    Returns
    -------
    uint8 of shape (N, 1 or 3, height, width): what `handlers.preprocess.resize` gives, times 255.

    Raises
    ------
    DataError
        Naming the file that cannot be read.
    """
    return _stack(examples, lambda example: _read(example, spec), threads)


def masks(examples: Sequence[Example], spec: Input, threads: int = 2) -> torch.Tensor:
    """Bring every example's mask to the input's geometry, as its image is.

    Returns
    -------
    uint8 of shape (N, 1, height, width), 0 and 1.

    Raises
    ------
    DataError
        Naming the file that cannot be read, or has another size than its image.
    """
    return _stack(examples, lambda example: _mask(example, spec), threads)


def _stack(examples: Sequence[Example], make: Callable[[Example], NDArray[np.uint8]], threads: int) -> torch.Tensor:
    with ThreadPoolExecutor(threads) as pool:
        return torch.from_numpy(np.stack(list(pool.map(make, examples))))


def _read(example: Example, spec: Input) -> NDArray[np.uint8]:
    try:
        image = decode.decode(example.read(), at_least=preprocess.at_least(spec))
    except (OSError, RequestError) as error:
        raise DataError(f"{example.path}: {example.name}: {error} Repair or remove the file.") from error
    values = np.rint(preprocess.resize(image, spec) * 255).astype(np.uint8)
    # A gray picture among coloured ones has three equal channels.
    return values.repeat(spec.channels, axis=0) if spec.color == "rgb" and len(values) == 1 else values


def _mask(example: Example, spec: Input) -> NDArray[np.uint8]:
    if example.mask is None:
        raise DataError(f"{example.path}: has no mask; a segmentation is trained on images with masks.")
    mask = lgg_mri.read_mask(example.mask)
    with Pillow.open(example.path) as image:
        if image.size != mask.size:
            raise DataError(f"{example.mask}: has {mask.size} pixels, its image {image.size}; both must be equal.")
    small = Geometry.of(*mask.size, spec).apply(mask, Pillow.Resampling.BILINEAR)
    return (np.asarray(small) >= 128).astype(np.uint8)[None]
