from __future__ import annotations

import torch

from training.batches import Images
from training.evaluators import stress


def test_each_condition_changes_the_films_and_nothing_else() -> None:
    images = Images(
        torch.randint(0, 256, (3, 1, 112, 160), dtype=torch.uint8), torch.tensor([0, 1, 1]), ("a", "b", "c")
    )
    found = stress.conditions(images)
    assert len(found) == 10
    for changed in found.values():
        assert changed.pixels.dtype == torch.uint8
        assert changed.pixels.shape == images.pixels.shape
        assert not torch.equal(changed.pixels, images.pixels)
        assert torch.equal(changed.targets, images.targets)
        assert changed.groups == images.groups


def test_conditions_are_the_same_each_time() -> None:
    images = Images(
        torch.randint(0, 256, (3, 1, 112, 160), dtype=torch.uint8), torch.tensor([0, 1, 1]), ("a", "b", "c")
    )
    first, second = stress.conditions(images), stress.conditions(images)
    assert all(torch.equal(first[name].pixels, second[name].pixels) for name in first)
