"""Examples to one tensor in memory, through the pipeline that serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handlers import decode, preprocess
from handlers.errors import RequestError
from handlers.recipe import Input
from training.data.example import Example
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
    with ThreadPoolExecutor(threads) as pool:
        images: Iterable[NDArray[np.uint8]] = pool.map(lambda example: _read(example.path, spec), examples)
        return torch.from_numpy(np.stack(list(images)))


def _read(path: Path, spec: Input) -> NDArray[np.uint8]:
    try:
        image = decode.decode(path.read_bytes(), at_least=preprocess.at_least(spec))
    except (OSError, RequestError) as error:
        raise DataError(f"{path}: {error} Repair or remove the file.") from error
    return np.rint(preprocess.resize(image, spec) * 255).astype(np.uint8)
