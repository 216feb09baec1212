"""The sample film of an archive: in distribution, and nobody's.

A principal component analysis of the training films gives a mean film and the ways in which films
differ. The sample is the mean plus a random share of the widest of these ways, each held within one
standard deviation: every pixel is a mixture of thousands of films. What is one patient's alone (a tube, the
run of a rib) is not in it; letters are where hundreds of films carry the same ones at the same place.

The shipped one was made with::

    python -m training.sample archives/chest-xray-cnn ../shared/data/chest_xray_224 --seed 10
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from handlers import recipe as recipes
from training import data, settings
from training.data import pixels

WIDTH: Final = 280
HEIGHT: Final = 196
COMPONENTS: Final = 24
"""Enough for lungs, heart and ribs; far fewer than would hold a single film."""


def draw(images: torch.Tensor, seed: int, components: int = COMPONENTS) -> NDArray[np.uint8]:
    """Draw one image from the distribution of many.

    Parameters
    ----------
    images
        uint8, shape (N, 1, height, width), of one label; N well above `components`.

    Returns
    -------
    Shape (height, width).
    """
    torch.manual_seed(seed)
    flat = images.flatten(1).float()
    mean = flat.mean(0)
    _, spread, ways = torch.svd_lowrank(flat - mean, q=components, niter=4)
    # A way and its opposite are the same to the decomposition; the sample must not depend on which one it gave.
    ways = ways * ways.gather(0, ways.abs().argmax(0, keepdim=True)).sign()
    coefficients = torch.randn(components).clamp(-1, 1) * spread / len(flat) ** 0.5
    film = (mean + ways @ coefficients).reshape(images.shape[-2:])
    # Averaging took contrast away; the sample gets the range of a usual film back.
    low, high = torch.quantile(film, 0.01), torch.quantile(film, 0.99)
    usual = flat[:: max(1, len(flat) // 200)]
    bottom, top = usual.quantile(0.01, dim=1).median(), usual.quantile(0.99, dim=1).median()
    film = (film - low) / (high - low) * (top - bottom) + bottom
    made: NDArray[np.uint8] = film.clamp(0, 255).round().byte().numpy()
    return made


def write(folder: Path, films: Path, label: str, seed: int) -> Path:
    """Make the sample that a recipe names, from the films of one label.

    Returns
    -------
    The PNG.
    """
    recipe = recipes.load(folder / "archive.yaml")
    examples = data.find(settings.load(folder / "training.yaml").data, films)
    spec = recipe.input.model_copy(update={"width": WIDTH, "height": HEIGHT})
    images = pixels.read([example for example in examples if example.label == label], spec)
    path = folder / recipe.sample
    Image.fromarray(draw(images, seed)).save(path, optimize=True)
    return path


def main(folder: Path, films: Path, label: str = "pneumonia", seed: int = 1) -> None:
    """Write the sample image of the archive in FOLDER from the data set in FILMS."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger(__name__).info("wrote %s", write(folder, films, label, seed))


if __name__ == "__main__":
    typer.run(main)
