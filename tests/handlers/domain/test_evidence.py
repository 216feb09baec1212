"""What is computed of an image for the detector."""

import numpy as np
import pytest
import torch

from handlers.domain import evidence
from handlers.recipe import Input

MOMENTS = np.arange(4, dtype=np.float32)
OF_IMAGE = {"thumbnail", "shape", "texture", "level", "colour", "bands"}
IMAGE = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_all_parts_are_collected_to_fit_a_detector() -> None:
    assert set(evidence.collect(MOMENTS, IMAGE)) == {*OF_IMAGE, "features"}
    assert set(evidence.collect(None, IMAGE)) == OF_IMAGE


@pytest.mark.parametrize(
    "names", [("features", "thumbnail"), ("thumbnail", "shape"), ("texture",), ("colour", "bands")]
)
def test_only_the_parts_of_a_detector_are_computed(names: tuple[str, ...]) -> None:
    parts, every = evidence.collect(MOMENTS, IMAGE, names), evidence.collect(MOMENTS, IMAGE)
    assert set(parts) == set(names)
    assert all(torch.equal(parts[name], every[name]) for name in names)


def test_darker_images_and_those_with_wider_margins_are_farther_apart_than_brighter_ones() -> None:
    gray = 0.2 + 0.6 * IMAGE[0]
    framed = torch.nn.functional.pad(gray, (16, 16, 16, 16))
    usual, dark, framed_dark, bright = (
        float(evidence.level(values)) for values in (gray, gray / 2, framed / 2, (gray * 1.5).clamp(max=1))
    )
    assert framed_dark > dark > usual > bright
    assert dark - usual > 4 * (usual - bright)
    assert torch.isfinite(evidence.level(torch.zeros(8, 8))).all()


def test_of_equal_channels_one_is_computed_with_the_same_luminance() -> None:
    spec = Input(color="gray", channels=3, height=64, width=96, mean=(0.48,) * 3, std=(0.23,) * 3)
    tensor = np.repeat(np.random.default_rng(2).normal(size=(1, 64, 96)).astype(np.float32), 3, axis=0)
    gray = evidence.luminance(evidence.intensities(tensor, spec))
    colour = evidence.luminance(evidence.intensities(tensor, spec.model_copy(update={"color": "rgb"})))
    assert torch.equal(gray, colour)
