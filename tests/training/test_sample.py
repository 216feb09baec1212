from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handlers import preprocess, suitability
from handlers import recipe as recipes
from handlers.formats import decode
from training import datasets, sample
from training.datasets import pixels
from training.errors import DataError

from .conftest import ROOT


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


def test_coloured_images_give_a_coloured_sample_of_as_many_levels_as_are_wanted() -> None:
    images = _images().repeat(1, 3, 1, 1)
    images[:, 2] //= 2
    made = sample.draw(images, 1, 8, levels=16)
    assert made.shape == (48, 60, 3)
    assert np.array_equal(made[..., 0], made[..., 1])
    assert made[..., 2].mean() < 0.7 * made[..., 0].mean()
    assert set(np.unique(made)) <= set(range(0, 256, 17))


def test_a_label_with_too_few_images_to_hide_one_is_refused(archive: Path, films: Path) -> None:
    with pytest.raises(DataError, match=r"1[67] images labelled 'normal'"):
        sample.write(archive, films, "normal", 1)
    with pytest.raises(DataError, match="0 images labelled 'cat'"):
        sample.write(archive, films, "cat", 1)


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "archives").glob("*/archive.yaml")), ids=lambda path: path.parent.name
)
def test_every_shipped_one_is_small_and_taken_by_its_own_model(folder: Path) -> None:
    recipe = recipes.load(folder)
    path = folder.parent / recipe.sample
    assert path.stat().st_size < 60_000
    image = decode.decode(path.read_bytes())
    suitability.check(image, recipe.input)
    assert image.pixels.mode == {"gray": "L", "rgb": "RGB"}[recipe.input.color]


@pytest.mark.parametrize(
    ("name", "data_set", "below"),
    [
        ("chest-xray-cnn", "chest_xray", "chest_xray_224"),
        ("brain-tumor-attention", "brain_tumor", "brain_tumor"),
        ("glioma-unet", "lgg_mri", "lgg_mri"),
    ],
)
def test_no_patients_image_is_close_to_the_shipped_one(shared: Path, name: str, data_set: str, below: str) -> None:
    """Far from each: closer than the sample is to itself in another compression would be a copy."""
    recipe = recipes.load(ROOT / "archives" / name / "archive.yaml")
    spec = recipe.input.model_copy(update={"height": 32, "width": 32})
    images = pixels.read(datasets.find(data_set, shared / below), spec).flatten(1).float()
    shipped = decode.decode((ROOT / "archives" / name / recipe.sample).read_bytes())
    mine = torch.from_numpy(preprocess.resize(shipped, spec)).flatten() * 255
    assert (images - mine).square().mean(1).sqrt().min() > 10
