from pathlib import Path

import pytest
import torch

from training import settings
from training.augment import expose, mix, move
from training.settings import Augmentation

from .conftest import ARCHIVE


def augment(images: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Apply both kinds of augmentation."""
    return expose(move(images, augmentation, generator)[0], augmentation, generator)


def _images(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 7, 10, generator=generator)
    return torch.nn.functional.interpolate(coarse, (112, 160), mode="bilinear")


def _generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def shipped() -> Augmentation:
    return settings.load(Path(ARCHIVE / "training.yaml")).augmentation


def test_default_settings_change_nothing() -> None:
    images = _images().clamp(1e-3, 1)
    torch.testing.assert_close(augment(images, Augmentation(), _generator()), images, atol=1e-4, rtol=0)


def test_only_the_seed_determines_the_result(shipped: Augmentation) -> None:
    images = _images()
    torch.rand(3)
    first = augment(images, shipped, _generator())
    torch.rand(5)
    assert torch.equal(first, augment(images, shipped, _generator()))
    assert not torch.equal(first, augment(images, shipped, _generator(2)))


def test_images_change_independently(shipped: Augmentation) -> None:
    same = _images(1).expand(4, -1, -1, -1)
    changed = augment(same, shipped, _generator())
    assert all(not torch.allclose(changed[0], other, atol=0.01) for other in changed[1:])


def test_values_stay_in_range_and_the_input_is_unchanged(shipped: Augmentation) -> None:
    images = _images()
    before = images.clone()
    changed = augment(images, shipped, _generator())
    assert changed.shape == images.shape
    assert 0 <= changed.min() < changed.max() <= 1
    assert torch.equal(images, before)


def test_images_are_not_mirrored_by_default() -> None:
    """The bright side remains on the left."""
    augmentation = Augmentation(rotation=20, shift=0.1, zoom=(0.8, 1.5), aspect=0.4, shear=0.15)
    images = torch.zeros(64, 1, 112, 160)
    images[:, :, :, :80] = torch.linspace(0.5, 1, 80)
    changed = augment(images, augmentation, _generator())
    assert (changed[..., 20:60, :60].mean((1, 2, 3)) > changed[..., 20:60, 100:].mean((1, 2, 3))).all()


@pytest.mark.parametrize("angle", [10.0, 20.0])
def test_a_rotation_keeps_lengths(angle: float) -> None:
    """A disc keeps its shape, because coordinates are in pixels, not in shares of the size."""
    rows, columns = torch.arange(112) - 55.5, torch.arange(160) - 79.5
    disc = ((rows[:, None] ** 2 + columns[None] ** 2) < 30**2).float().expand(20, 1, 112, 160)
    changed = augment(disc, Augmentation(rotation=angle), _generator())
    assert (changed - disc).abs().mean() < 0.005


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(gamma=0.5),
        Augmentation(contrast=0.5),
        Augmentation(brightness=0.2),
        Augmentation(shading=0.2),
        Augmentation(bias=0.3),
        Augmentation(tone=0.3),
        Augmentation(blur=2),
        Augmentation(sharpen=2),
        Augmentation(noise=0.05),
        Augmentation(erase=1),
        Augmentation(zoom=(1.2, 1.4)),
        Augmentation(shift=0.1),
        Augmentation(shear=0.2),
        Augmentation(aspect=0.3),
    ],
    ids=lambda augmentation: next(iter(augmentation.model_fields_set)),
)
def test_each_setting_has_an_effect(augmentation: Augmentation) -> None:
    images = _images()
    assert (augment(images, augmentation, _generator()) - images).abs().max() > 0.01


@pytest.mark.parametrize("augmentation", [Augmentation(bias=0.3), Augmentation(tone=0.3)], ids=["bias", "tone"])
def test_channels_change_independently(augmentation: Augmentation) -> None:
    same = _images().expand(-1, 3, -1, -1)
    changed = expose(same, augmentation, _generator())
    assert (changed[:, 0] - changed[:, 1]).abs().max() > 0.01
    assert (changed[:, 2] - changed[:, 1]).abs().max() > 0.01


def test_a_missing_channel_is_replaced_by_the_middle_one() -> None:
    images = torch.cat([_images(40), _images(40).flip(-1), _images(40).flip(-2)], 1).clamp(1e-3, 1)
    changed = expose(images, Augmentation(missing=0.25), _generator())
    torch.testing.assert_close(changed[:, 1], images[:, 1])
    for index in (0, 2):
        filled = (changed[:, index] - images[:, 1]).abs().amax((1, 2)) < 1e-5
        kept = (changed[:, index] - images[:, index]).abs().amax((1, 2)) < 1e-5
        assert (filled ^ kept).all()
        assert 2 <= filled.sum() <= 20


def test_mixup_keeps_the_sum_of_shares_and_favours_the_original_label() -> None:
    targets = torch.eye(2)[torch.arange(6) % 2]
    images, shares = mix(_images(), targets, Augmentation(mixup=0.4), _generator())
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert (shares.gather(1, targets.argmax(1, keepdim=True)) >= 0.5).all()
    assert not torch.equal(images, _images())


def test_targets_are_unchanged_without_mixup() -> None:
    targets = torch.eye(2)
    assert torch.equal(mix(_images(2), targets, Augmentation(), _generator())[1], targets)


MOVES = Augmentation(rotation=20, shift=0.1, zoom=(0.8, 1.2), shear=0.1, flip=("horizontal", "vertical"))
EXPOSURES = Augmentation(gamma=0.4, contrast=0.4, brightness=0.1, shading=0.1, blur=1, sharpen=1, noise=0.05, erase=1)


def _masks(count: int = 6) -> torch.Tensor:
    masks = torch.zeros(count, 1, 112, 160, dtype=torch.uint8)
    masks[:, :, 20:60, 30:100] = 1
    return masks


def test_geometry_and_exposure_are_independent() -> None:
    images = _images().clamp(1e-3, 1)
    torch.testing.assert_close(expose(images, MOVES, _generator()), images, atol=1e-4, rtol=0)
    torch.testing.assert_close(move(images, EXPOSURES, _generator())[0], images, atol=1e-4, rtol=0)


def test_masks_do_not_affect_the_movement_of_images() -> None:
    alone, nothing = move(_images(), MOVES, _generator())
    together, masks = move(_images(), MOVES, _generator(), _masks())
    assert nothing is None
    assert torch.equal(alone, together)
    assert masks is not None
    assert masks.dtype == torch.uint8
    assert set(masks.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_moves_with_its_image(seed: int) -> None:
    masks = _masks()
    images = 0.2 + 0.6 * masks.float()
    moved, result = move(images, MOVES, _generator(seed), masks)
    assert result is not None
    assert not torch.equal(result, masks)
    assert ((moved > 0.5) == (result > 0)).float().mean() > 0.995


def test_pixels_outside_the_image_are_never_marked() -> None:
    """Images may be padded with their border, masks are padded with 0."""
    full = torch.ones(6, 1, 112, 160, dtype=torch.uint8)
    for seed in range(4):
        moved, result = move(full.float(), Augmentation(zoom=(0.5, 0.5)), _generator(seed), full)
        assert result is not None
        assert 0.2 < result.float().mean() < 0.3
    assert moved.max() > 0.99


def test_a_mask_is_unchanged_without_movement() -> None:
    _, result = move(_images(), Augmentation(), _generator(), _masks())
    assert result is not None
    assert torch.equal(result, _masks())


@pytest.mark.parametrize(("axis", "index"), [("horizontal", -1), ("vertical", -2)])
def test_about_half_of_the_images_are_mirrored(axis: str, index: int) -> None:
    images, masks = _images(40), _masks(40)
    moved, result = move(images, Augmentation(flip=(axis,)), _generator(), masks)  # type: ignore[arg-type]
    assert result is not None
    mirrored = 0
    for image, mask, after, marked in zip(images, masks, moved, result, strict=True):
        same = torch.allclose(after, image, atol=1e-4)
        other = torch.allclose(after, image.flip(index), atol=1e-4)
        assert same != other
        assert torch.equal(marked, mask.flip(index) if other else mask)
        mirrored += other
    assert 10 <= mirrored <= 30
