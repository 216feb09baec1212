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


def test_the_seed_determines_the_result() -> None:
    assert np.array_equal(sample.draw(_images(), 1, 8), sample.draw(_images(), 1, 8))
    assert not np.array_equal(sample.draw(_images(), 1, 8), sample.draw(_images(), 2, 8))


def test_a_detail_of_a_single_film_does_not_show() -> None:
    """A mark on one film hardly changes the sample."""
    images = _images()
    images[7, :, 10:14, 10:30] = 255
    spread = images[:, :, 10:14, 10:30].float().std()
    film = sample.draw(images, 1, 8).astype(float)
    marked = film[10:14, 10:30].mean() - film[14:18, 10:30].mean()
    images[7] = images[8]
    film = sample.draw(images, 1, 8).astype(float)
    assert abs(marked - (film[10:14, 10:30].mean() - film[14:18, 10:30].mean())) < 0.2 * spread


def test_the_texture_is_as_strong_as_that_of_the_images() -> None:
    grain = torch.randn(300, 1, 48, 60, generator=torch.Generator().manual_seed(1)) * 12
    images = (_images().float() * 0.7 + 40 + grain).clamp(0, 255).byte()
    of_images, smooth, textured = (
        np.abs(np.diff(pixels.astype(float), axis=-1)).mean()
        for pixels in (images.numpy(), sample.draw(images, 1, 8), sample.draw(images, 1, 8, texture=1))
    )
    assert smooth < 0.5 * of_images
    assert 0.8 * of_images < textured < 1.25 * of_images


def test_colour_images_give_a_colour_sample_with_the_given_levels() -> None:
    images = _images().repeat(1, 3, 1, 1)
    images[:, 2] //= 2
    image = sample.draw(images, 1, 8, levels=16)
    assert image.shape == (48, 60, 3)
    assert np.array_equal(image[..., 0], image[..., 1])
    assert image[..., 2].mean() < 0.7 * image[..., 0].mean()
    assert set(np.unique(image)) <= set(range(0, 256, 17))


def test_a_label_with_too_few_images_is_rejected(archive: Path, films: Path) -> None:
    with pytest.raises(DataError, match=r"1[67] images with the label 'normal'"):
        sample.write(archive, films, "normal")
    with pytest.raises(DataError, match="0 images with the label 'cat'"):
        sample.write(archive, films, "cat")


@pytest.mark.parametrize(
    "folder", sorted((ROOT / "archives").glob("*/archive.yaml")), ids=lambda path: path.parent.name
)
def test_every_shipped_sample_is_small_and_accepted_by_its_model(folder: Path) -> None:
    recipe = recipes.load(folder)
    path = folder.parent / recipe.sample
    assert path.stat().st_size < 60_000
    image = decode.decode(path.read_bytes())
    suitability.check(image, recipe.input, recipe.scope.enlargement)
    assert image.pixels.mode == {"gray": "L", "rgb": "RGB"}[recipe.input.color]


@pytest.mark.parametrize(
    ("name", "data_set", "folder"),
    [
        ("chest-xray-cnn", "chest_xray", "chest_xray_224"),
        ("brain-tumor-cnn-attention", "brain_tumor", "brain_tumor"),
        ("glioma-unet", "lgg_mri", "lgg_mri"),
    ],
)
def test_no_training_image_resembles_the_shipped_sample(shared: Path, name: str, data_set: str, folder: str) -> None:
    """A copy would differ by no more than compression artefacts."""
    recipe = recipes.load(ROOT / "archives" / name / "archive.yaml")
    spec = recipe.input.model_copy(update={"height": 32, "width": 32})
    images = pixels.read(datasets.find(data_set, shared / folder), spec).flatten(1).float()
    shipped = decode.decode((ROOT / "archives" / name / recipe.sample).read_bytes())
    mine = torch.from_numpy(preprocess.resize(shipped, spec)).flatten() * 255
    assert (images - mine).square().mean(1).sqrt().min() > 10
