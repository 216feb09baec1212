from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training import sample

from .conftest import ARCHIVE


def _images(count: int = 300) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 4, 5, generator=draw)
    return (torch.nn.functional.interpolate(coarse, (48, 60), mode="bilinear") * 255).byte()


def test_the_seed_decides() -> None:
    assert np.array_equal(sample.draw(_images(), 1, 8), sample.draw(_images(), 1, 8))
    assert not np.array_equal(sample.draw(_images(), 1, 8), sample.draw(_images(), 2, 8))


def test_it_is_nobodys() -> None:
    """What one film alone has does not show: without that film the sample is nearly the same."""
    images = _images()
    images[7, :, 10:14, 10:30] = 255
    spread = images[:, :, 10:14, 10:30].float().std()
    film = sample.draw(images, 1, 8).astype(float)
    marked = film[10:14, 10:30].mean() - film[14:18, 10:30].mean()
    images[7] = images[8]
    film = sample.draw(images, 1, 8).astype(float)
    assert abs(marked - (film[10:14, 10:30].mean() - film[14:18, 10:30].mean())) < 0.2 * spread


def test_the_shipped_one_is_small_and_gray() -> None:
    path = ARCHIVE / "sample.png"
    assert path.stat().st_size < 60_000
    with Image.open(path) as film:
        assert (film.mode, film.size) == ("L", (sample.WIDTH, sample.HEIGHT))


def test_no_real_film_is_close_to_the_shipped_one(real: Path) -> None:
    from handlers import recipe as recipes
    from training import data
    from training.data import pixels

    spec = recipes.load(ARCHIVE / "archive.yaml").input
    films = pixels.read(data.find("chest_xray", real), spec).flatten(1).float()
    with Image.open(ARCHIVE / "sample.png") as image:
        small = image.resize((spec.width, spec.height), Image.Resampling.BILINEAR)
        mine = torch.from_numpy(np.array(small)).flatten().float()
    nearest = (films - mine).square().mean(1).sqrt().min()
    assert nearest > 10
