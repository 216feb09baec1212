import pytest
import torch

from handlers.recipe import Recipe
from training import batches
from training.batches import Images, SamplingPlan
from training.errors import SettingsError
from training.settings import Augmentation, Settings


def _images(count: int = 20) -> Images:
    pixels = torch.randint(0, 256, (count, 1, 112, 160), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 2, tuple(map(str, range(count))))


def test_an_epoch_contains_each_image_once() -> None:
    indices = torch.cat([draw.indices for draw in SamplingPlan(torch.zeros(20).long(), 5, seed=1)])
    assert sorted(indices.tolist()) == list(range(20))


def test_epochs_differ_and_are_reproducible() -> None:
    plan = SamplingPlan(torch.zeros(20).long(), 5, seed=1)
    first = [(draw.indices.tolist(), draw.seed) for draw in plan]
    plan.set_epoch(1)
    second = [(draw.indices.tolist(), draw.seed) for draw in plan]
    plan.set_epoch(0)
    assert first != second
    assert first == [(draw.indices.tolist(), draw.seed) for draw in plan]


def test_an_incomplete_batch_is_dropped() -> None:
    assert [len(draw.indices) for draw in SamplingPlan(torch.zeros(23).long(), 5, seed=1)] == [5] * 4


def test_plain_batches_keep_the_order_and_the_rest(recipe: Recipe) -> None:
    images = _images(5)
    spec = recipe.input.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    loader = batches.plain(images, spec, 2, 2)
    values = [values for values, _ in loader]
    assert [len(each) for each in values] == [2, 2, 1]
    assert len(loader) == 3
    torch.testing.assert_close(torch.cat(values)[:, :1], images.pixels / 255)


def test_augmented_batches_have_inputs_and_shares_of_labels(recipe: Recipe, quick: Settings) -> None:
    loader = batches.training(_images(), recipe.input, 2, quick.model_copy(update={"batch": 5}))
    values, targets = next(iter(loader))
    assert values.shape == (5, 3, 112, 160)
    assert targets.shape == (5, 2)
    torch.testing.assert_close(values[:, 0], values[:, 2])


def test_augmented_and_plain_batches_are_normalised_identically(recipe: Recipe) -> None:
    images = _images(4)
    settings = Settings(data="chest_xray", batch=4, seed=1)
    values, _ = next(iter(batches.training(images, recipe.input, 2, settings)))
    (draw,) = SamplingPlan(images.targets, 4, 1)
    plain, _ = next(iter(batches.plain(images, recipe.input, 2)))
    torch.testing.assert_close(values, plain[draw.indices], atol=0.01, rtol=0)


def test_an_even_epoch_balances_labels_and_varies_the_selection() -> None:
    targets = torch.tensor([0] * 15 + [1] * 5)
    plan = SamplingPlan(targets, 5, seed=1, even=True)
    epochs = []
    for epoch in (0, 1):
        plan.set_epoch(epoch)
        indices = torch.cat([draw.indices for draw in plan])
        assert len(plan) == 2
        assert torch.bincount(targets[indices]).tolist() == [5, 5]
        assert len(set(indices.tolist())) == 10
        epochs.append(set(indices.tolist()))
    assert epochs[0] != epochs[1]


def test_a_mask_moves_with_its_image(recipe: Recipe) -> None:
    """A bright square remains under its mask."""
    pixels = torch.zeros(8, 1, 112, 160, dtype=torch.uint8)
    pixels[:, :, 30:70, 40:90] = 200
    masks = (pixels > 0).byte()
    images = Images(pixels, torch.ones(8).long(), tuple("abcdefgh"), masks)
    augmentation = Augmentation(rotation=25, shift=0.1, zoom=(0.8, 1.2), shear=0.1, flip=("horizontal", "vertical"))
    spec = recipe.input.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    loader = batches.training(images, spec, 2, Settings(data="lgg_mri", batch=8, augmentation=augmentation))
    values, result = next(iter(loader))
    assert not torch.equal(result, masks.float())
    assert set(result.unique().tolist()) == {0.0, 1.0}
    bright = values[:, :1] > 100 / 255
    assert (bright == (result > 0)).float().mean() > 0.99


def test_scaled_images_and_masks_shrink_together() -> None:
    pixels, masks = torch.zeros(2, 3, 64, 96, dtype=torch.uint8), torch.zeros(2, 1, 64, 96, dtype=torch.uint8)
    pixels[:, :, 16:32, 32:64], masks[:, :, 16:32, 32:64] = 200, 1
    half = batches.scaled(Images(pixels, torch.zeros(2).long(), ("a", "b"), masks), 0.5)
    assert half.masks is not None
    assert half.pixels.shape == (2, 3, 32, 48)
    assert torch.equal(half.pixels[:, :1] > 100, half.masks > 0)
    assert half.masks.sum() == 2 * 8 * 16
    assert half.groups == ("a", "b")


def test_letters_need_films_of_one_channel(recipe: Recipe) -> None:
    images = Images(torch.zeros(4, 3, 112, 160, dtype=torch.uint8), torch.zeros(4).long(), ("a", "b", "c", "d"))
    settings = Settings(data="chest_xray", batch=4, augmentation=Augmentation(letters=0.5))
    with pytest.raises(SettingsError, match=r"augmentation.letters.*3 channels"):
        batches.training(images, recipe.input, 2, settings)


def test_consistency_gets_two_views_of_each_image(recipe: Recipe) -> None:
    settings = Settings(data="chest_xray", batch=5, consistency=1, augmentation=Augmentation(brightness=0.3))
    values, targets = next(iter(batches.training(_images(), recipe.input, 2, settings)))
    assert values.shape[0] == 10
    assert torch.equal(targets[:5], targets[5:])
    first, second = (part - part.mean((1, 2, 3), keepdim=True) for part in values.chunk(2))
    assert not torch.equal(values[:5], values[5:])
    assert torch.nn.functional.cosine_similarity(first.flatten(1), second.flatten(1)).min() > 0.9


def test_consistency_is_not_for_masks(recipe: Recipe) -> None:
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    images = Images(pixels, torch.arange(4) % 2, ("a", "b", "c", "d"), pixels[:, :1])
    with pytest.raises(SettingsError, match="consistency: is for classifications"):
        batches.training(images, recipe.input, 2, Settings(data="lgg_mri", consistency=1))
