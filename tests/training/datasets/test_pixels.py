from __future__ import annotations

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


def test_training_sees_what_the_server_sees(films: Path, recipe: Recipe) -> None:
    """Bit for bit, through decoding, resizing and normalising."""
    examples = datasets.find("chest_xray", films)
    images = Images(pixels.read(examples, recipe.input), torch.zeros(len(examples), dtype=torch.long), ())
    seen = torch.cat([values for values, _ in batches.plain(images, recipe.input, 2)])
    for example, values in zip(examples, seen, strict=True):
        image = decode.decode(example.path.read_bytes(), at_least=preprocess.at_least(recipe.input))
        np.testing.assert_array_equal(values.numpy(), preprocess.preprocess(image, recipe.input))


def test_a_broken_film_is_named(films: Path, recipe: Recipe) -> None:
    broken = films / "train" / "NORMAL" / "IM-0001-0001.jpeg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"IM-0001-0001\.jpeg"):
        pixels.read(datasets.find("chest_xray", films), recipe.input)
