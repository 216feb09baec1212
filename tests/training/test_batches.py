from __future__ import annotations

import torch

from handlers.recipe import Recipe
from training import batches
from training.batches import Images, InOrder, SamplingPlan
from training.settings import Augmentation, Settings


def _images(count: int = 20) -> Images:
    pixels = torch.randint(0, 256, (count, 1, 112, 160), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 2, tuple(map(str, range(count))))


def test_an_epoch_shows_each_image_once() -> None:
    places = torch.cat([draw.places for draw in SamplingPlan(torch.zeros(20).long(), 5, seed=1)])
    assert sorted(places.tolist()) == list(range(20))


def test_epochs_differ_and_each_can_be_repeated() -> None:
    plan = SamplingPlan(torch.zeros(20).long(), 5, seed=1)
    first = [(draw.places.tolist(), draw.seed) for draw in plan]
    plan.set_epoch(1)
    second = [(draw.places.tolist(), draw.seed) for draw in plan]
    plan.set_epoch(0)
    assert first != second
    assert first == [(draw.places.tolist(), draw.seed) for draw in plan]


def test_what_does_not_fill_a_batch_is_left_to_another_epoch() -> None:
    assert [len(draw.places) for draw in SamplingPlan(torch.zeros(23).long(), 5, seed=1)] == [5] * 4


def test_evaluation_keeps_the_order_and_the_rest() -> None:
    assert [draw.places.tolist() for draw in InOrder(5, 2)] == [[0, 1], [2, 3], [4]]
    assert len(InOrder(5, 2)) == 3


def test_augmented_batches_are_network_inputs_with_shares_of_labels(recipe: Recipe, quick: Settings) -> None:
    loader = batches.training(_images(), recipe.input, 2, quick.model_copy(update={"batch": 5}))
    values, targets = next(iter(loader))
    assert values.shape == (5, 3, 112, 160)
    assert targets.shape == (5, 2)
    torch.testing.assert_close(values[:, 0], values[:, 2])


def test_unchanged_images_give_the_same_batch_augmented_or_not(recipe: Recipe) -> None:
    """Both kinds of batches go through one normalisation."""
    images = _images(4)
    still = Settings(data="chest_xray", batch=4, seed=1)
    values, _ = next(iter(batches.training(images, recipe.input, 2, still)))
    (draw,) = SamplingPlan(images.targets, 4, 1)
    plain, _ = next(iter(batches.plain(images, recipe.input, 2)))
    torch.testing.assert_close(values, plain[draw.places], atol=0.01, rtol=0)


def test_an_even_epoch_has_as_many_of_each_label_and_changes_its_choice() -> None:
    targets = torch.tensor([0] * 15 + [1] * 5)
    plan = SamplingPlan(targets, 5, seed=1, even=True)
    epochs = []
    for epoch in (0, 1):
        plan.set_epoch(epoch)
        places = torch.cat([draw.places for draw in plan])
        assert len(plan) == 2
        assert torch.bincount(targets[places]).tolist() == [5, 5]
        assert len(set(places.tolist())) == 10
        epochs.append(set(places.tolist()))
    assert epochs[0] != epochs[1]


def test_a_mask_moves_with_its_image(recipe: Recipe) -> None:
    """A square that is bright in the image stays under its mask, however both are changed."""
    pixels = torch.zeros(8, 1, 112, 160, dtype=torch.uint8)
    pixels[:, :, 30:70, 40:90] = 200
    masks = (pixels > 0).byte()
    images = Images(pixels, torch.ones(8).long(), tuple("abcdefgh"), masks)
    how = Augmentation(rotation=25, shift=0.1, zoom=(0.8, 1.2), shear=0.1, flip=("horizontal", "vertical"))
    spec = recipe.input.model_copy(update={"mean": (0.0,) * 3, "std": (1.0,) * 3})
    loader = batches.training(images, spec, 2, Settings(data="lgg_mri", batch=8, augmentation=how))
    values, found = next(iter(loader))
    assert not torch.equal(found, masks.float())
    assert set(found.unique().tolist()) == {0.0, 1.0}
    bright = values[:, :1] > 100 / 255
    assert (bright == (found > 0)).float().mean() > 0.99
