import torch

from training.batches import Images
from training.evaluators import stress


def test_each_condition_changes_only_the_pixels() -> None:
    images = Images(
        torch.randint(0, 256, (3, 1, 112, 160), dtype=torch.uint8), torch.tensor([0, 1, 1]), ("a", "b", "c")
    )
    result = stress.conditions(images)
    assert len(result) == 10
    for changed in result.values():
        assert changed.pixels.dtype == torch.uint8
        assert changed.pixels.shape == images.pixels.shape
        assert not torch.equal(changed.pixels, images.pixels)
        assert torch.equal(changed.targets, images.targets)
        assert changed.groups == images.groups


def test_conditions_are_reproducible() -> None:
    images = Images(
        torch.randint(0, 256, (3, 1, 112, 160), dtype=torch.uint8), torch.tensor([0, 1, 1]), ("a", "b", "c")
    )
    first, second = stress.conditions(images), stress.conditions(images)
    assert all(torch.equal(first[name].pixels, second[name].pixels) for name in first)
