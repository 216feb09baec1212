"""The installed detectors refuse what their models must not analyse; on a few real images of the validation side."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image as Pillow

from handlers import recipe as recipes
from handlers.domain import detector
from training import settings
from training.datasets import training_data
from training.detector.copies import encode
from training.detector.fit import load_network
from training.detector.refusals import Subject, kinds

ROOT: Final = Path(__file__).parents[3]
DATA: Final = {"chest-xray-cnn": "chest_xray_224", "brain-tumor-cnn-attention": "brain_tumor"}
OTHER: Final = {"chest-xray-cnn": "brain_tumor", "brain-tumor-cnn-attention": "chest_xray_224"}
LEAST: Final = {
    "other organ": 0.95,
    "pages of text": 0.95,
    "screenshots": 0.95,
    "noise": 0.95,
    "rotated by 90 degrees": 0.85,
    "inverted": 0.9,
    "cropped to 60 % of the sides": 0.7,
}
"""Smallest share that is refused: less than the bars, by the spread of a sample of `COUNT`."""
MISSED: Final = {("brain-tumor-cnn-attention", "rotated by 90 degrees"): 0.75}
"""The same where a bar is missed: 88 of 100 slices are refused, see the card."""
COUNT: Final = 61
HELD_OUT: Final = {"chest-xray-cnn": 2, "brain-tumor-cnn-attention": 3}
"""Most held-out images of different groups that are refused; 3 of 61 miss the bar of 3 %, see the card."""


@pytest.mark.parametrize("name", DATA)
def test_other_images_are_refused_and_held_out_ones_are_not(name: str, shared: Path) -> None:
    folder = ROOT / "archives" / name
    recipe = recipes.load(folder / "archive.yaml")
    loaded = detector.load(folder, recipe)
    assert loaded is not None
    layers = loaded.section.layers
    subject = Subject(loaded, load_network(recipe, folder, layers) if layers else None, recipe)
    sides = training_data.load_sides(recipe, settings.load(folder / "training.yaml"), shared / DATA[name])
    assert sides.sha256 == loaded.section.split
    groups = {example.group: example for example in sides.validation}  # copies of a slice are no further evidence
    own = subject.refusal(example.read() for example in islice(groups.values(), COUNT))
    assert own.refused <= HELD_OUT[name]
    for kind, images in kinds(recipe, sides.validation, {"other organ": shared / OTHER[name]}):
        if kind in LEAST:
            refusal = subject.refusal(islice(images, COUNT))
            assert refusal.refused >= MISSED.get((name, kind), LEAST[kind]) * refusal.images, kind


def _dark_slices(folder: Path) -> Iterator[bytes]:
    """Read the FLAIR channel of every slice with tumour of every fifth patient of the LGG data, as gray images."""
    for case in sorted(folder.iterdir())[::5]:
        for path in sorted(case.glob("*_mask.png")):
            with Pillow.open(path) as mask, Pillow.open(path.with_name(f"{path.stem[:-5]}.webp")) as image:
                if np.asarray(mask).any():
                    yield encode(image.convert("RGB").getchannel("G"))


def test_dark_slices_whose_glioma_the_brain_model_misses_are_not_normal(shared: Path) -> None:
    folder = ROOT / "archives" / "brain-tumor-cnn-attention"
    recipe = recipes.load(folder / "archive.yaml")
    loaded = detector.load(folder, recipe)
    assert loaded is not None
    refusal = Subject(loaded, None, recipe).refusal(_dark_slices(shared / "lgg_mri" / "kaggle_3m"))
    assert refusal.images > 150
    assert refusal.marked >= 0.85 * refusal.images
