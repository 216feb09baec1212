from __future__ import annotations

import torch

from handlers.recipe import Recipe
from training import batches
from training.batches import Images, InOrder, Plan
from training.settings import Augmentation, Settings


def _images(count: int = 20) -> Images:
    pixels = torch.randint(0, 256, (count, 1, 112, 160), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 2, tuple(map(str, range(count))))


def test_an_epoch_shows_each_image_once() -> None:
    places = torch.cat([draw.places for draw in Plan(20, 5, seed=1)])
    assert sorted(places.tolist()) == list(range(20))


def test_epochs_differ_and_each_can_be_repeated() -> None:
    plan = Plan(20, 5, seed=1)
    first = [(draw.places.tolist(), draw.seed) for draw in plan]
    plan.set_epoch(1)
    second = [(draw.places.tolist(), draw.seed) for draw in plan]
    plan.set_epoch(0)
    assert first != second
    assert first == [(draw.places.tolist(), draw.seed) for draw in plan]


def test_what_does_not_fill_a_batch_is_left_to_another_epoch() -> None:
    assert [len(draw.places) for draw in Plan(23, 5, seed=1)] == [5] * 4


def test_evaluation_keeps_the_order_and_the_rest() -> None:
    assert [draw.places.tolist() for draw in InOrder(5, 2)] == [[0, 1], [2, 3], [4]]
    assert len(InOrder(5, 2)) == 3


def test_augmented_batches_are_network_inputs_with_shares_of_labels(recipe: Recipe, quick: Settings) -> None:
    loader = batches.training(_images(), recipe.input, 2, 5, 1, quick.augmentation)
    values, targets = next(iter(loader))
    assert values.shape == (5, 3, 112, 160)
    assert targets.shape == (5, 2)
    torch.testing.assert_close(values[:, 0], values[:, 2])


def test_unchanged_images_give_the_same_batch_augmented_or_not(recipe: Recipe) -> None:
    """Both kinds of batches go through one normalisation."""
    images = _images(4)
    values, _ = next(iter(batches.training(images, recipe.input, 2, 4, 1, Augmentation())))
    (draw,) = Plan(4, 4, 1)
    plain, _ = next(iter(batches.plain(images, recipe.input, 2)))
    torch.testing.assert_close(values, plain[draw.places], atol=0.01, rtol=0)
