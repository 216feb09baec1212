"""Creates the synthetic sample image of a model, which shows no real patient.

A principal component analysis of the training images of one label gives their mean and the directions in which they
differ most. The sample is the mean plus a random amount of each of the widest directions, limited to one standard
deviation, so every pixel is a mixture of hundreds of images or more. Details of a single patient (a tube, the shape of
a rib) are absent; letters appear where hundreds of films have the same ones in the same place. What averaging removes,
the texture, is added as noise with the mean power spectrum of many images' details and random phases, so that the
sample is like the training images.

The shipped samples were created with these commands; models of the same data set share one::

    python -m training.sample archives/chest-xray-cnn DATA pneumonia --seed 10 --width 280 --height 196 --levels 64
        --texture 0.35
    python -m training.sample archives/brain-tumor-cnn-attention DATA tumour --seed 3 --levels 64 --texture 0.35
    python -m training.sample archives/glioma-unet DATA tumour --seed 6 --levels 64
    python -m training.sample archives/cifar10-lenet DATA car --seed 5
"""

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

COMPONENTS: Final = 24  # enough for lungs, heart and ribs; far too few to reproduce a single image
_MIN_IMAGES: Final = 10 * COMPONENTS  # number of images from which on none is recognisable

_log = logging.getLogger(__name__)


def draw(
    images: torch.Tensor, seed: int, components: int = COMPONENTS, levels: int = 256, texture: float = 0
) -> NDArray[np.uint8]:
    """Draw one image from the distribution of many, which have one label and outnumber `components` by far.

    Images are uint8 (N, 1 or 3, height, width), the result has shape (height, width[, 3]). Fewer of the 2 to 256 gray
    levels make a smaller file. `texture` is the strength of the details, from 0 to 1, that of an average image.
    """
    torch.manual_seed(seed)
    flat = images.flatten(1).float()
    mean = flat.mean(0)
    _, spread, directions = torch.svd_lowrank(flat - mean, q=components, niter=4)
    # The sign of a direction is arbitrary; fix it, so that the sample does not depend on it.
    directions = directions * directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    coefficients = torch.randn(components).clamp(-1, 1) * spread / len(flat) ** 0.5
    drawn = mean + directions @ coefficients
    # Averaging reduces the contrast; restore the range of a typical image.
    low, high = drawn.quantile(0.01), drawn.quantile(0.99)
    typical = flat[:: max(1, len(flat) // 200)]
    bottom, top = typical.quantile(0.01, dim=1).median(), typical.quantile(0.99, dim=1).median()
    drawn = (drawn - low) / (high - low) * (top - bottom) + bottom
    if texture:
        details = typical - mean
        details -= details @ directions @ directions.T
        drawn += texture * _noise_like(details.reshape(-1, *images.shape[1:])).flatten()
    drawn = drawn.clamp(0, 255)
    step = 255 / (levels - 1)
    drawn = (drawn / step).round() * step
    image: NDArray[np.uint8] = drawn.round().byte().reshape(images.shape[1:]).numpy()
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _noise_like(details: torch.Tensor) -> torch.Tensor:
    """Draw noise of random phases with the mean power spectrum and, at each pixel, the mean power of details."""
    spectrum = torch.fft.rfft2(details).abs().square().mean(0).sqrt()
    phases = torch.fft.rfft2(torch.randn(details.shape[1:]))
    noise = torch.fft.irfft2(spectrum * phases / phases.abs(), s=details.shape[-2:])
    power = details.square().mean(0).sqrt()
    return torch.mul(noise, power / power.mean())


def write(
    folder: Path,
    images: Path,
    label: str,
    *,
    seed: int = 1,
    width: int | None = None,
    height: int | None = None,
    levels: int = 256,
    texture: float = 0,
) -> None:
    """Write the sample of the model in FOLDER from the images labelled LABEL of the data set in IMAGES."""
    recipe = recipes.load(folder / "archive.yaml")
    size = {"width": width or recipe.input.width, "height": height or recipe.input.height}
    examples = datasets.find(settings.load(folder / "training.yaml").data, images)
    selected = [example for example in examples if example.label == label]
    if len(selected) < _MIN_IMAGES:
        labels = ", ".join(sorted({example.label for example in examples}))
        raise DataError(
            f"{images}: has {len(selected)} images with the label {label!r} (available: {labels}). At least "
            f"{_MIN_IMAGES} are required, so that none is recognisable."
        )
    drawn = draw(pixels.read(selected, recipe.input.model_copy(update=size)), seed, levels=levels, texture=texture)
    Image.fromarray(drawn).save(folder / recipe.sample, optimize=True)
    _log.info("wrote %s", folder / recipe.sample)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(write)
