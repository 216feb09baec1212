import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from training.lightning_modules.classification import Classification, both
from training.settings import Settings


def _module(counts: list[int], smoothing: float = 0.0) -> Classification:
    settings = Settings(data="chest_xray", label_smoothing=smoothing)
    return Classification(nn.Conv2d(1, len(counts), 1), settings, torch.tensor(counts))


def test_one_logit_equals_the_pair_zero_and_itself() -> None:
    single = torch.tensor([[-2.0], [0.5]])
    torch.testing.assert_close(both(single).softmax(1)[:, 1:], single.sigmoid())


def test_several_logits_are_unchanged() -> None:
    wide = torch.randn(3, 4)
    assert both(wide) is wide


def test_labels_are_weighted_equally_regardless_of_their_frequency() -> None:
    """Nine wrong predictions of one label and one of the other contribute the same to the loss."""
    module = _module([90, 10])
    targets = one_hot(torch.tensor([0] * 9 + [1]), 2).float()
    correct = 3.0 * (2 * targets - 1)
    bad_first, bad_second = correct.clone(), correct.clone()
    bad_first[:9] *= -1
    bad_second[9:] *= -1
    assert float(module.loss(bad_first, targets)) == pytest.approx(float(module.loss(bad_second, targets)), rel=1e-5)
    assert float(module.loss(bad_first, targets)) > 10 * float(module.loss(correct, targets))


def test_smoothing_affects_only_the_training_loss() -> None:
    plain, smooth = _module([5, 5]), _module([5, 5], smoothing=0.2)
    targets, logits = one_hot(torch.tensor([0, 1]), 2).float(), torch.tensor([[4.0, -4.0], [-4.0, 4.0]])
    assert float(smooth.loss(logits, targets)) > float(plain.loss(logits, targets))
    assert float(smooth.update_metric(logits, targets)) == float(plain.update_metric(logits, targets))
    assert float(plain.update_metric(logits, targets)) == pytest.approx(float(cross_entropy(logits, targets)))


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_metric_for_two_labels_is_the_auroc_over_all_batches(outputs: int) -> None:
    module = _module([5, 5])
    assert module.watched == "auroc"
    for scores, truth in (([0.1, 0.4], [0, 1]), ([0.3, 0.2], [1, 0]), ([0.35], [0])):
        logits = torch.tensor(scores)[:, None]
        logits = logits if outputs == 1 else torch.cat([-logits, logits], dim=1)
        module.update_metric(logits, one_hot(torch.tensor(truth), 2).float())
    assert float(module.compute_metric()) == pytest.approx(5 / 6)


def test_the_metric_for_many_labels_is_the_accuracy_and_is_reset_after_each_epoch() -> None:
    module = _module([5, 5, 5])
    assert module.watched == "accuracy"
    truth = one_hot(torch.tensor([0, 1, 2, 2]), 3).float()
    predicted = one_hot(torch.tensor([0, 1, 2, 1]), 3).float()
    module.update_metric(predicted, truth)
    assert float(module.compute_metric()) == 0.75
    module.update_metric(truth, truth)
    assert float(module.compute_metric()) == 1


def test_consistency_penalises_views_with_different_probabilities() -> None:
    """The first half of a batch has one view of every image, the second half the other."""
    settings = Settings(data="chest_xray", consistency=3)
    module = Classification(nn.Conv2d(1, 2, 1), settings, torch.tensor([5, 5]))
    targets, logits = one_hot(torch.tensor([0, 1, 0, 1]), 2).float(), torch.tensor([[2.0, 0], [0, 2], [2, 0], [0, 2]])
    assert float(module.loss(logits, targets)) == pytest.approx(float(_module([5, 5]).loss(logits, targets)))
    other = logits.clone()
    other[2] = torch.tensor([0.0, 0.0])
    moved = torch.tensor([2.0, 0.0]).softmax(0)[0] - 0.5
    expected = _module([5, 5]).loss(other, targets) + 3 * 2 * moved**2 / 2
    assert float(module.loss(other, targets)) == pytest.approx(float(expected))
