from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from training.lightning_modules.classification import Classification, both
from training.settings import Settings


def _module(counts: list[int], smoothing: float = 0.0) -> Classification:
    settings = Settings(data="chest_xray", label_smoothing=smoothing)
    return Classification(nn.Conv2d(1, len(counts), 1), settings, torch.tensor(counts))


def test_one_logit_is_the_pair_that_a_sigmoid_stands_for() -> None:
    single = torch.tensor([[-2.0], [0.5]])
    torch.testing.assert_close(both(single).softmax(1)[:, 1:], single.sigmoid())


def test_more_logits_are_left_alone() -> None:
    wide = torch.randn(3, 4)
    assert both(wide) is wide


def test_labels_weigh_alike_however_many_images_they_have() -> None:
    """Nine of one and one of the other, each answered as badly: both add the same to the loss."""
    module = _module([90, 10])
    targets = one_hot(torch.tensor([0] * 9 + [1]), 2).float()
    right = 3.0 * (2 * targets - 1)
    bad_first, bad_second = right.clone(), right.clone()
    bad_first[:9] *= -1
    bad_second[9:] *= -1
    assert float(module.loss(bad_first, targets)) == pytest.approx(float(module.loss(bad_second, targets)), rel=1e-5)
    assert float(module.loss(bad_first, targets)) > 10 * float(module.loss(right, targets))


def test_smoothing_is_of_the_training_loss_alone() -> None:
    plain, smooth = _module([5, 5]), _module([5, 5], smoothing=0.2)
    targets, logits = one_hot(torch.tensor([0, 1]), 2).float(), torch.tensor([[4.0, -4.0], [-4.0, 4.0]])
    assert float(smooth.loss(logits, targets)) > float(plain.loss(logits, targets))
    assert float(smooth.watch(logits, targets)) == float(plain.watch(logits, targets))
    assert float(plain.watch(logits, targets)) == pytest.approx(float(cross_entropy(logits, targets)))


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_labels_are_watched_by_their_auroc_over_all_batches(outputs: int) -> None:
    module = _module([5, 5])
    assert module.watched == "auroc"
    for scores, truth in (([0.1, 0.4], [0, 1]), ([0.3, 0.2], [1, 0]), ([0.35], [0])):
        logits = torch.tensor(scores)[:, None]
        logits = logits if outputs == 1 else torch.cat([-logits, logits], dim=1)
        module.watch(logits, one_hot(torch.tensor(truth), 2).float())
    assert float(module.watched_value()) == pytest.approx(5 / 6)


def test_more_labels_are_watched_by_their_accuracy_and_an_epoch_forgets_the_last() -> None:
    module = _module([5, 5, 5])
    assert module.watched == "accuracy"
    truth = one_hot(torch.tensor([0, 1, 2, 2]), 3).float()
    told = one_hot(torch.tensor([0, 1, 2, 1]), 3).float()
    module.watch(told, truth)
    assert float(module.watched_value()) == 0.75
    module.watch(truth, truth)
    assert float(module.watched_value()) == 1
