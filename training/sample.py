"""The sample image of an archive: in distribution, and nobody's.

A principal component analysis of the training images of one label gives a mean image and the ways in which
images differ. The sample is the mean plus a random share of the widest of these ways, each held within one
standard deviation: every pixel is a mixture of hundreds of images or more. What is one patient's alone (a tube,
the run of a rib) is not in it; letters are where hundreds of films carry the same ones at the same place.

The shipped ones were made with these lines; models of one data set share theirs::

    python -m training.sample archives/chest-xray-cnn DATA pneumonia --seed 10 --width 280 --height 196
    python -m training.sample archives/brain-tumor-attention DATA tumour --seed 2
    python -m training.sample archives/glioma-unet DATA tumour --seed 6 --levels 64
    python -m training.sample archives/cifar10-lenet DATA car --seed 5
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
from training import datasets, settings
from training.datasets import pixels
from training.errors import DataError

COMPONENTS: Final = 24
"""Enough for lungs, heart and ribs; far fewer than would hold a single image."""


_FEWEST: Final = 10 * COMPONENTS
"""Images of which none shows through."""


def draw(images: torch.Tensor, seed: int, components: int = COMPONENTS, levels: int = 256) -> NDArray[np.uint8]:
    """Draw one image from the distribution of many.

    Parameters
    ----------
    images
        uint8, shape (N, 1 or 3, height, width), of one label; N well above `components`.
    levels
        Of gray, from 2 to 256; fewer make a smaller file.

    Returns
    -------
    Shape (height, width) of gray images, (height, width, 3) of coloured ones.
    """
    torch.manual_seed(seed)
    flat = images.flatten(1).float()
    mean = flat.mean(0)
    _, spread, ways = torch.svd_lowrank(flat - mean, q=components, niter=4)
    # A way and its opposite are the same to the decomposition; the sample must not depend on which one it gave.
    ways = ways * ways.gather(0, ways.abs().argmax(0, keepdim=True)).sign()
    coefficients = torch.randn(components).clamp(-1, 1) * spread / len(flat) ** 0.5
    drawn = mean + ways @ coefficients
    # Averaging took contrast away; the sample gets the range of a usual image back.
    low, high = drawn.quantile(0.01), drawn.quantile(0.99)
    usual = flat[:: max(1, len(flat) // 200)]
    bottom, top = usual.quantile(0.01, dim=1).median(), usual.quantile(0.99, dim=1).median()
    drawn = ((drawn - low) / (high - low) * (top - bottom) + bottom).clamp(0, 255)
    step = 255 / (levels - 1)
    drawn = (drawn / step).round() * step
    made: NDArray[np.uint8] = drawn.round().byte().reshape(images.shape[1:]).numpy()
    return made[0] if len(made) == 1 else made.transpose(1, 2, 0)


def write(
    folder: Path, images_of: Path, label: str, seed: int, size: tuple[int, int] | None = None, levels: int = 256
) -> Path:
    """Make the sample that a recipe names, from the images of one label.

    Parameters
    ----------
    images_of
        The data set, in the layout of its public download.
    size
        (width, height) of the sample; those of the network's input without it.
    levels
        See `draw`.

    Returns
    -------
    The PNG.

    Raises
    ------
    DataError
        If the data set has too few images of that label.
    """
    recipe = recipes.load(folder / "archive.yaml")
    spec = recipe.input
    if size is not None:
        spec = spec.model_copy(update={"width": size[0], "height": size[1]})
    examples = datasets.find(settings.load(folder / "training.yaml").data, images_of)
    chosen = [example for example in examples if example.label == label]
    if len(chosen) < _FEWEST:
        known = ", ".join(sorted({example.label for example in examples}))
        raise DataError(
            f"{images_of}: has {len(chosen)} images labelled {label!r} (labels: {known}); {_FEWEST} hide one."
        )
    images = pixels.read(chosen, spec)
    path = folder / recipe.sample
    Image.fromarray(draw(images, seed, levels=levels)).save(path, optimize=True)
    return path


def main(
    folder: Path,
    images: Path,
    label: str,
    *,
    seed: int = 1,
    width: int | None = None,
    height: int | None = None,
    levels: int = 256,
) -> None:
    """Write the sample of the archive in FOLDER from the images labelled LABEL of the data set in IMAGES."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec = recipes.load(folder / "archive.yaml").input
    size = (width or spec.width, height or spec.height)
    logging.getLogger(__name__).info("wrote %s", write(folder, images, label, seed, size, levels))


if __name__ == "__main__":
    typer.run(main)
