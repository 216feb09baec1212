from pathlib import Path

import numpy as np
import pytest
import torch

from handlers import preprocess
from handlers.formats import decode
from handlers.recipe import Recipe
from training import batches, datasets
from training.batches import Images
from training.datasets import pixels
from training.errors import DataError


def test_training_and_server_preprocess_identically(films: Path, recipe: Recipe) -> None:
    """Compares the pixels after decoding, resizing and normalising."""
    examples = datasets.find("chest_xray", films)
    images = Images(pixels.read(examples, recipe.input), torch.zeros(len(examples), dtype=torch.long), ())
    seen = torch.cat([values for values, _ in batches.plain(images, recipe.input, 2)])
    for example, values in zip(examples, seen, strict=True):
        image = decode.decode(example.path.read_bytes(), at_least=preprocess.at_least(recipe.input))
        np.testing.assert_array_equal(values.numpy(), preprocess.preprocess(image, recipe.input))


def test_a_broken_film_is_reported(films: Path, recipe: Recipe) -> None:
    broken = films / "train" / "NORMAL" / "IM-0001-0001.jpeg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"IM-0001-0001\.jpeg"):
        pixels.read(datasets.find("chest_xray", films), recipe.input)


def test_statistics_are_those_of_all_pixels() -> None:
    images = torch.randint(0, 256, (7, 1, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values = images.double() / 255
    mean, std = pixels.statistics(images, channels=3)
    assert mean == pytest.approx([values.mean().item()] * 3, abs=1e-6)
    assert std == pytest.approx([values.std(correction=0).item()] * 3, abs=1e-6)


def test_the_deviation_is_not_that_of_the_image_means() -> None:
    """With the deviation of the means, as in the original system, images of equal mean would have none."""
    image = torch.tensor([0, 255], dtype=torch.uint8).repeat(50).view(1, 1, 10, 10)
    assert pixels.statistics(image.repeat(4, 1, 1, 1), channels=1)[1] == (0.5,)


def test_channels_have_separate_statistics() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[:, 2] = 255
    assert pixels.statistics(images, channels=3)[0] == (0, 0, 1)
