from __future__ import annotations

import pytest
import torch

from training.datasets import statistics


def test_mean_and_spread_are_those_of_all_pixels() -> None:
    images = torch.randint(0, 256, (7, 1, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values = images.double() / 255
    found = statistics.of_pixels(images, channels=3)
    assert found.mean == pytest.approx([values.mean().item()] * 3, abs=1e-6)
    assert found.std == pytest.approx([values.std(correction=0).item()] * 3, abs=1e-6)


def test_the_spread_is_not_that_of_the_means_of_the_images() -> None:
    """The original system's mistake: images of equal mean would have no spread at all."""
    image = torch.tensor([0, 255], dtype=torch.uint8).repeat(50).view(1, 1, 10, 10)
    assert statistics.of_pixels(image.repeat(4, 1, 1, 1), channels=1).std == (0.5,)


def test_colours_are_measured_apart() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[:, 2] = 255
    assert statistics.of_pixels(images, channels=3).mean == (0, 0, 1)
